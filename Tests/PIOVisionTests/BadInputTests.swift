import CPIOImage
import Foundation
import PIOVision
import Testing

@Suite struct BadInputTests {
  static let preparation = ImagePreparation(side: 28, patchSize: 14)

  func failure(_ bytes: Data, limits: ImageLimits = ImageLimits()) -> ImageError? {
    do {
      _ = try prepared(bytes: bytes, Self.preparation, limits: limits)
      return nil
    } catch {
      return error as? ImageError
    }
  }

  func failure(path: String) -> ImageError? {
    do {
      _ = try prepared(path: path, Self.preparation)
      return nil
    } catch {
      return error as? ImageError
    }
  }

  @Test(arguments: [
    "baseline.jpg", "progressive.jpg", "one_pixel.jpg", "cmyk.jpg", "restarts.jpg", "bits_1.png",
    "palette_trns.png", "interlaced_narrow.png", "exif_orientation_5.png",
  ])
  func refusesAnImageCutAnywhere(file: String) throws {
    let whole = GoldenImages.bytes(of: file)
    #expect(failure(whole) == nil)
    for count in 0..<whole.count {
      switch failure(whole.prefix(count)) {
      case .truncated: #expect(count >= 3)
      case .unknownFormat: #expect(count < 8)
      case let other: Issue.record("\(file) cut to \(count): \(String(describing: other))")
      }
    }
  }

  @Test(arguments: ["palette_trns.png", "interlaced_narrow.png", "grey_trns.png"])
  func refusesAPNGWithAnyBitFlipped(file: String) {
    let whole = GoldenImages.bytes(of: file)
    for at in 0..<whole.count {
      var bytes = whole
      bytes[at] ^= 1 << UInt8(at % 8)
      #expect(failure(bytes) != nil, "byte \(at)")
    }
  }

  /// A JPEG has no checksum: most damage shows as broken codes, the rest as other pixels.
  @Test(arguments: ["baseline.jpg", "progressive.jpg", "restarts.jpg", "cmyk.jpg"])
  func survivesAJPEGWithAnyByteReplaced(file: String) {
    let whole = GoldenImages.bytes(of: file)
    var refused = 0
    for at in 0..<whole.count {
      for value in [UInt8(0), 0x7f, 0xff] {
        var bytes = whole
        bytes[at] = value
        if failure(bytes) != nil { refused += 1 }
      }
    }
    #expect(refused > whole.count / 4)
  }

  @Test func refusesWhatIsNoImageAndSaysWhatItIs() {
    #expect(failure(Data()) == .unknownFormat(path: "memory", found: "the file is empty"))
    let found: [(String, String)] = [
      ("hello, this is text", "neither a JPEG nor a PNG"),
      ("GIF89a....", "a GIF; JPEG and PNG are read"),
      ("RIFF\0\0\0\0WEBPVP8 ", "a WebP; JPEG and PNG are read"),
      ("\0\0\0\u{18}ftypheic", "an HEIC, AVIF or video file; JPEG and PNG are read"),
    ]
    for (text, name) in found {
      #expect(failure(Data(text.utf8)) == .unknownFormat(path: "memory", found: name))
    }
  }

  @Test func refusesAnImageOfNoPixels() {
    for (width, height) in [(0, 5), (5, 0), (0, 0)] {
      guard case .damaged = failure(Forged.png(width, height)) else {
        Issue.record("PNG \(width) × \(height)")
        continue
      }
      guard case .damaged = failure(Forged.jpeg(width, height)) else {
        Issue.record("JPEG \(width) × \(height)")
        continue
      }
    }
  }

  @Test(arguments: [Forged.png(20_000, 20_000), Forged.jpeg(20_000, 20_000)])
  func refusesTooManyPixelsByTheHeaderAlone(bytes: Data) {
    let error = failure(bytes)
    #expect(
      error
        == .tooManyPixels(path: "memory", width: 20_000, height: 20_000, maxPixels: 64_000_000))
    #expect(error?.description.contains("--max-image-pixels") == true)
  }

  @Test func thePixelLimitIsTheLastSizeThatPasses() throws {
    var limits = ImageLimits()
    limits.maxPixels = 75 * 50
    #expect(failure(GoldenImages.bytes(of: "baseline.jpg"), limits: limits) == nil)
    limits.maxPixels -= 1
    #expect(
      failure(GoldenImages.bytes(of: "baseline.jpg"), limits: limits)
        == .tooManyPixels(path: "memory", width: 75, height: 50, maxPixels: 3749))
  }

  @Test func refusesAnEdgeAboveTheLimit() {
    #expect(
      failure(Forged.png(65_501, 2))
        == .edgeTooLong(path: "memory", width: 65_501, height: 2, maxEdge: 65_500))
    guard case .tooManyPixels = failure(Forged.png(0x7fff_ffff, 0x7fff_ffff)) else {
      Issue.record("2³¹ − 1 squared")
      return
    }
  }

  @Test(arguments: ["progressive.jpg", "interlaced.png", "baseline.jpg", "rgb_16.png"])
  func refusesWhatDoesNotFitTheCodecsMemory(file: String) {
    var limits = ImageLimits()
    limits.maxCodecBytes = 4096
    guard
      case .codecMemory(_, _, let needed, 4096) = failure(
        GoldenImages.bytes(of: file), limits: limits)
    else {
      Issue.record("decoded in 4096 bytes")
      return
    }
    #expect(needed > 4096)
  }

  @Test func refusesAProgressiveImageByItsHeader() {
    let bytes = Forged.jpeg(8000, 8000, progressive: true)
    guard case .codecMemory(_, _, let needed, _) = failure(bytes) else {
      Issue.record("\(String(describing: failure(bytes)))")
      return
    }
    #expect(needed > 2 * 8000 * 8000)
  }

  @Test func refusesFoldersPipesAndMissingFiles() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "pioedge-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(failure(path: folder.path) == .notAFile(path: folder.path))
    let pipe = folder.appendingPathComponent("pipe").path
    #expect(mkfifo(pipe, 0o600) == 0)
    #expect(failure(path: pipe) == .notAFile(path: pipe))
    #expect(failure(path: "/dev/zero") == .notAFile(path: "/dev/zero"))
    let missing = folder.appendingPathComponent("none.jpg").path
    #expect(failure(path: missing) == .cannotOpen(path: missing, errno: ENOENT))
  }

  @Test func refusesAnImpossiblePreparation() {
    for (side, patchSize, resizeTo, std) in [
      (0, 14, 28, Float(1)), (28, 0, 28, 1), (28, 29, 28, 1), (28, 14, 0, 1), (9000, 14, 28, 1),
      (28, 14, 9000, 1), (28, 14, 28, 0),
    ] {
      var preparation = ImagePreparation(side: side, patchSize: patchSize)
      preparation.steps.resizeTo = resizeTo
      preparation.steps.std.1 = std
      #expect(throws: ImageError.self) {
        try prepared(path: GoldenImages.path("baseline.jpg"), preparation)
      }
    }
  }
}

/// Headers of images that are not there.
enum Forged {
  /// A PNG of grey pixels whose data ends at once.
  static func png(_ width: Int, _ height: Int) -> Data {
    var header = Data("IHDR".utf8)
    for value in [width, height] {
      withUnsafeBytes(of: UInt32(value).bigEndian) { header.append(contentsOf: $0) }
    }
    header.append(contentsOf: [8, 0, 0, 0, 0])
    var out = Data([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
    for chunk in [header, Data("IDAT".utf8), Data("IEND".utf8)] {
      withUnsafeBytes(of: UInt32(chunk.count - 4).bigEndian) { out.append(contentsOf: $0) }
      out.append(chunk)
      withUnsafeBytes(of: crc32(chunk).bigEndian) { out.append(contentsOf: $0) }
    }
    return out
  }

  /// The whole of a small JPEG with another size in its frame header.
  static func jpeg(_ width: Int, _ height: Int, progressive: Bool = false) -> Data {
    var bytes = GoldenImages.bytes(of: progressive ? "progressive.jpg" : "baseline.jpg")
    let frame = bytes.range(of: Data([0xff, progressive ? 0xc2 : 0xc0, 0x00, 0x11, 0x08]))!
    for (i, value) in [height >> 8, height & 255, width >> 8, width & 255].enumerated() {
      bytes[frame.upperBound + i] = UInt8(value)
    }
    return bytes
  }

  /// The CRC of PNG chunks (ISO 3309), bit by bit.
  static func crc32(_ bytes: Data) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xedb8_8320 : crc >> 1 }
    }
    return ~crc
  }
}
