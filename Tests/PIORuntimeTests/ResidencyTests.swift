import PIOFormat
import Testing

@testable import PIORuntime

struct ResidencyTests {
  @Test func headBlocksCoverTheHeadOnce() {
    for model in ModelShapes.all {
      let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
      let name = model.config.text.tiedHead ? "text.embedding" : "text.head.weight"
      let head = model.tensors.first { $0.spec.name == name }!
      #expect(units.head.first?.rows.lowerBound == 0)
      #expect(units.head.last?.rows.upperBound == model.config.text.vocabSize)
      #expect(units.head.first?.bytes.lowerBound == head.offset)
      #expect(units.head.last?.bytes.upperBound == head.offset + head.byteCount)
      for (a, b) in zip(units.head, units.head.dropFirst()) {
        #expect(a.rows.upperBound == b.rows.lowerBound && a.rows.upperBound % 16 == 0)
        #expect(a.bytes.upperBound == b.bytes.lowerBound)
      }
    }
  }

  @Test func layersCoverTheirTensors() {
    for model in ModelShapes.all {
      let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
      #expect(units.layers.count == model.config.text.layerCount)
      #expect(
        units.visionCount == (model.config.vision == nil ? 0 : ModelShapes.tower.layerCount + 2))
      for tensor in model.tensors {
        let range = tensor.offset..<(tensor.offset + tensor.byteCount)
        switch tensor.spec.section {
        case .decoderLayer(let layer):
          #expect(units.layers[layer].contains(range.lowerBound))
          #expect(units.layers[layer].upperBound >= range.upperBound)
        case .visionLayer(let layer):
          #expect(units.vision[layer + 1].contains(range.lowerBound))
        default: break
        }
      }
    }
  }

  @Test(arguments: [0.1, 0.3, 0.5, 0.8, 0.95])
  func theWindowHoldsTheUnitInUseAndTheNext(_ share: Double) {
    for model in ModelShapes.all {
      let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
      let total = Residency.plain(units).residentBytes
      let free = Int(Double(total) * share)
      let residency = Residency(
        fitting: units, in: .init(decoder: free, encoder: free, image: .max),
        usesHeadInside: false, isConversation: false, streamsAll: false)
      #expect(residency.residentBytes + residency.windowBytes <= free)
      let streamed = residency.decoderUnits.indices.filter { residency.streams[$0] }
      let sizes = residency.decoderUnits.map(WeightUnits.residentByteCount)
      for (index, unit) in streamed.enumerated() where streamed.count > 1 {
        let next = streamed[(index + 1) % streamed.count]
        #expect(sizes[unit] + sizes[next] <= residency.windowBytes)
      }
      // Spread: gaps between streamed units differ by one at most.
      let gaps = zip(streamed, streamed.dropFirst()).map { $1 - $0 }
      #expect((gaps.max() ?? 1) - (gaps.min() ?? 1) <= 1)
    }
  }

  @Test func everythingStaysWhereItFits() {
    let model = ModelShapes.tinyLlama
    let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
    let residency = Residency(
      fitting: units, in: nil, usesHeadInside: true, isConversation: true, streamsAll: false)
    #expect(residency.windowBytes == 0 && residency.streamedBytes == 0)
    #expect(!residency.streamsVision)
    #expect(residency.residentBytes == Residency.plain(units).residentBytes)
  }

  @Test func anImageInAChatMakesRoomByStreamingTheTowerFirst() {
    let model = ModelShapes.tinyLlama
    let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
    let all = Residency.plain(units).residentBytes
    // Enough for the decoder, not for the tower beside it.
    let residency = Residency(
      fitting: units, in: .init(decoder: all + 1000, encoder: all + 1000, image: .max),
      usesHeadInside: false, isConversation: true, streamsAll: false)
    #expect(residency.streamsVision)
    #expect(residency.residentWhileEncodingBytes + residency.visionBytes <= all + 1000)
    #expect(residency.residentWhileEncodingBytes > all * 8 / 10)
  }
}
