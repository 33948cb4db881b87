import Foundation
import PIOVision
import Testing

@Suite struct GoldenTests {
  /// The bound owed is 1/255 a pixel. Everything after decoding is equal to the bit; the decoder is
  /// the system's libjpeg, which need not be Pillow's, hence one step of room for JPEG.
  @Test(arguments: GoldenImages.all.cases)
  func equalsHuggingFace(golden: GoldenCase) throws {
    let patchSize = golden.side % 7 == 0 ? golden.side / 7 : golden.side
    let preparation = GoldenImages.all.preparation(golden, patchSize: patchSize)
    let (info, patches) = try prepared(path: GoldenImages.path(golden.file), preparation)
    #expect(info.width == golden.width && info.height == golden.height)
    let found = image(patches, preparation, rows: golden.rows)
    let expected = GoldenImages.all.expected(golden)
    #expect(found.count == expected.count)
    let worst = zip(found, expected).map { abs($0 - $1) }.max()!
    let room: Float = golden.file.hasSuffix(".png") ? 0 : golden.normalized ? 0.0146 : 1
    #expect(worst <= room, "worst difference \(worst)")
    if ProcessInfo.processInfo.environment["PIOEDGE_REPORT"] != nil {
      print("worst", worst, golden)
    }
  }

  @Test(arguments: ["baseline.jpg", "rgb_16.png", "progressive.jpg", "interlaced.png"])
  func memoryGivesWhatTheFileGives(file: String) throws {
    let preparation = ImagePreparation(side: 28, patchSize: 14)
    let fromFile = try prepared(path: GoldenImages.path(file), preparation)
    let fromMemory = try prepared(bytes: GoldenImages.bytes(of: file), preparation)
    #expect(fromFile.info == fromMemory.info)
    #expect(fromFile.patches == fromMemory.patches)
  }

  @Test func patchesHoldChannelThenRowThenColumn() throws {
    var preparation = ImagePreparation(side: 28, patchSize: 28)
    preparation.steps.rescaleFactor = 1
    let whole = try prepared(path: GoldenImages.path("baseline.jpg"), preparation)
    preparation.patchSize = 9
    let pieces = try prepared(path: GoldenImages.path("baseline.jpg"), preparation)
    #expect(pieces.patches.count == 9 * 243)
    for (patch, channel, y, x) in [(0, 0, 0, 0), (4, 1, 3, 7), (8, 2, 8, 8), (5, 0, 0, 8)] {
      let found = pieces.patches[((patch * 3 + channel) * 9 + y) * 9 + x]
      let (row, column) = (patch / 3 * 9 + y, patch % 3 * 9 + x)
      #expect(found == whole.patches[(channel * 28 + row) * 28 + column])
    }
  }
}
