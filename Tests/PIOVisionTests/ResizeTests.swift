import PIOBase
import CPIOImage
import Foundation
import PIOVision
import Testing

@Suite struct ResizeTests {
  /// Encodes an image of one colour.
  func plain(_ width: Int, _ height: Int, _ color: (UInt8, UInt8, UInt8)) throws -> Data {
    let pixels = (0..<width * height).flatMap { _ in [color.0, color.1, color.2] }
    return Data(try encodePNG(pixels, width: width, height: height))
  }

  /// Shapes at the ends of the limits, all fits, all orders of the passes.
  @Test(
    arguments: [
      (1, 1), (1, 65_500), (65_500, 1), (2, 30_000), (30_000, 2), (976, 3), (3, 976), (400, 400),
    ], ImagePreprocessing.Fit.allCases)
  func keepsOneColourInEveryShape(size: (width: Int, height: Int), fit: ImagePreprocessing.Fit)
    throws
  {
    let bytes = try plain(size.width, size.height, (10, 200, 90))
    for (side, resizeTo) in [(28, 28), (28, 20), (14, 56), (3, 1), (1, 300)] {
      for filter in ImagePreprocessing.Filter.allCases {
        var preparation = ImagePreparation(side: side, patchSize: side)
        preparation.steps.fit = fit
        preparation.steps.filter = filter
        preparation.steps.resizeTo = resizeTo
        preparation.steps.rescaleFactor = 1
        preparation.steps.padColor = (10, 200, 90)
        let found = try prepared(bytes: bytes, preparation)
        #expect(found.info.width == size.width && found.info.height == size.height)
        for channel in 0..<3 {
          let values = Set(found.patches[(channel * side * side)..<((channel + 1) * side * side)])
          let color: Float = [10, 200, 90][channel]
          #expect(values.isSubset(of: resizeTo < side ? [0, color] : [color]), "\(values)")
        }
      }
    }
  }

  @Test func everyOrientationIsTheSameImageTurned() throws {
    var preparation = ImagePreparation(side: 30, patchSize: 30)
    preparation.steps.fit = .pad
    func turned(_ orientation: Int) throws -> [Float] {
      let path = GoldenImages.path("orientation_\(orientation).jpg")
      return try prepared(path: path, preparation).patches
    }
    let upright = try turned(1)
    func same(_ other: [Float], _ source: (Int, Int) -> (x: Int, y: Int)) -> Bool {
      (0..<30).allSatisfy { y in
        (0..<30).allSatisfy { x in
          let from = source(x, y)
          return abs(other[y * 30 + x] - upright[from.y * 30 + from.x]) < 2.5 / 255
        }
      }
    }
    #expect(same(try turned(2)) { (29 - $0, $1) })
    #expect(same(try turned(3)) { (29 - $0, 29 - $1) })
    #expect(same(try turned(4)) { ($0, 29 - $1) })
    #expect(same(try turned(5)) { ($1, $0) })
    #expect(same(try turned(6)) { ($1, 29 - $0) })
    #expect(same(try turned(7)) { (29 - $1, 29 - $0) })
    #expect(same(try turned(8)) { (29 - $1, $0) })
  }

  @Test func scratchDoesNotGrowWithThePixelLimit() {
    let preparation = ImagePreparation(side: 336, patchSize: 14)
    var limits = ImageLimits()
    let usual = imageScratchByteCount(preparation, limits: limits)
    #expect(usual < 8 << 20)
    limits.maxPixels = 4_000_000_000
    #expect(imageScratchByteCount(preparation, limits: limits) == usual)
    limits.maxEdge = 8000
    #expect(imageScratchByteCount(preparation, limits: limits) < 1 << 20)
  }

  @Test func anEncodedPNGReadsBackAsItWas() throws {
    let pixels = (0..<28 * 28 * 3).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    let bytes = Data(try encodePNG(pixels, width: 28, height: 28))
    var preparation = ImagePreparation(side: 28, patchSize: 28)
    preparation.steps.rescaleFactor = 1
    let found = try prepared(bytes: bytes, preparation).patches
    for i in 0..<28 * 28 {
      for channel in 0..<3 {
        #expect(found[channel * 784 + i] == Float(pixels[3 * i + channel]))
      }
    }
  }

  @Test func aPNGThatCannotBeEncodedSaysSo() {
    var error = pio_image_error()
    let pixels: [UInt8] = [0, 0, 0]
    let refuse: @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, Int) -> Int32 = {
      _, _, _ in 1
    }
    #expect(pio_png_write(refuse, nil, pixels, 1, 1, 3, &error) == PIO_IMAGE_DAMAGED)
    #expect(throws: ImageError.self) { try encodePNG([], width: 0, height: 1) }
  }
}
