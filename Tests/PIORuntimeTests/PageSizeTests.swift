import Foundation
import PIOFormat
import Testing

@testable import PIORuntime

/// Boards have pages of 4 KiB, of 16 (a Raspberry Pi 5) or of 64: nothing that is mapped, read ahead or dropped may count
/// on the smallest.
@Suite struct PageSizeTests {
  static let sizes = [4 << 10, 16 << 10, 64 << 10]

  @Test(arguments: sizes)
  func unitsBeginOnAPage(_ page: Int) {
    for model in ModelShapes.all {
      let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
      #expect(units.boundaries.allSatisfy { $0 % page == 0 })
      #expect((units.vision + units.layers).allSatisfy { $0.lowerBound % page == 0 })
    }
  }

  /// Dropping a unit takes no page that a layer or another block of the head has bytes in, but for the window that two
  /// blocks share, which goes with the later one.
  @Test(arguments: sizes)
  func droppingAUnitTakesNoPageOfAnother(_ page: Int) {
    for model in ModelShapes.all {
      let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
      let all = units.all
      let head = all.count - units.head.count
      for index in all.indices {
        let range = WeightUnits.droppable(
          all[index], isFollowedByHead: index >= head && index + 1 < all.count)
        guard
          let dropped = wholePages(range, pageByteCount: page, of: model.fileByteCount)
        else { continue }
        for other in all.indices where other != index && other + 1 != index {
          #expect(!dropped.overlaps(all[other]), "unit \(index) and \(other), \(page)")
        }
        if index > 0, index != head || units.layers.isEmpty {
          let before = all[index - 1]
          let shared = dropped.clamped(to: before)
          #expect(shared.count < WeightUnits.window)
          #expect(index > head || shared.isEmpty, "unit \(index), \(page)")
        }
      }
    }
  }

  /// The whole of a model streamed as on a machine with such pages: every byte of every unit, in several passes.
  @Test(arguments: sizes, [FilePages.Method.populate, .touch])
  func streamedUnitsHaveTheirBytes(_ page: Int, _ method: FilePages.Method) throws {
    guard page >= FilePages.pageByteCount else { return }
    let path = try Files.model("tools/demo/checkpoint", weights: .int4, vision: .int8)
    let expected = try Data(contentsOf: URL(fileURLWithPath: path))
    let mapped = try LastingFile(path: path)
    let units = try units(of: path)
    let residency = Residency(
      fitting: units, in: nil, usesHeadInside: false, isConversation: true, streamsAll: true)
    let stream = try WeightStream(
      residency, mapped.pages(ofByteCount: page), method: method, dropsCache: false, locks: false)
    let all = units.all
    for _ in 0..<2 {
      for index in all.indices {
        if index == 0 { stream.beginEncoding() }
        if index == units.visionCount { stream.endEncoding() }
        try stream.acquire(index, wraps: index >= units.visionCount)
        let range = all[index]
        let bytes = UnsafeRawBufferPointer(rebasing: mapped.bytes[range])
        #expect(expected[range].elementsEqual(bytes), "unit \(index)")
        stream.release(index)
      }
    }
    #expect(stream.loadedBytes >= 2 * all.reduce(0) { $0 + $1.count })
  }

  /// What the plan counts in is whole pages everywhere.
  @Test(arguments: sizes)
  func windowsAreWholePages(_ page: Int) {
    #expect(WeightUnits.window % page == 0)
    #expect(ProcessMemory.threadBytes % page == 0)
  }
}

private func units(of path: String) throws -> WeightUnits {
  let model = try ModelFile(path: path)
  return WeightUnits(model.config, model.tensors, fileByteCount: model.byteCount)
}

/// Mapped until the process ends: a stream's helper reads ahead until the stream is destroyed, whatever else is before.
private final class LastingFile {
  private let file: MappedFile

  init(path: String) throws {
    file = try MappedFile(path: path)
    _ = Unmanaged.passRetained(self)
  }

  var bytes: UnsafeRawBufferPointer { file.bytes }

  func pages(ofByteCount count: Int) -> FilePages { file.pages(ofByteCount: count) }
}
