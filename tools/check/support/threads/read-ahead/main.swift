// What ThreadSanitizer watches: a pass that acquires and releases units while the helper reads ahead,
// streams that come and go, a tower that gives its memory back. See tools/check/threads.
import Glibc
import PIOFormat

/// All that `WeightStream` throws.
enum RuntimeError: Error {
  case cannotReadWeights(errno: Int32)
  case cannotLockWeights(errno: Int32)
}

extension WeightUnits {
  /// Units of a few windows each, the head in blocks that end inside one.
  init(vision: Int, layers: Int, blocks: Int) {
    func range(_ index: Int) -> Range<Int> {
      index * 2 * Self.window..<(index + 1) * 2 * Self.window
    }
    self.vision = (0..<vision).map(range)
    self.layers = (0..<layers).map { range(vision + $0) }
    let start = 2 * Self.window * (vision + layers)
    let size = Self.window * 3 / 2
    head = (0..<blocks).map {
      HeadBlock(
        rows: $0 * 16..<($0 + 1) * 16, bytes: start + $0 * size..<start + ($0 + 1) * size)
    }
    embeddingStart = 0
  }
}

let path = CommandLine.arguments[1]
let units = WeightUnits(vision: 4, layers: 9, blocks: 5)
let byteCount = units.all.last!.upperBound
let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 % 251) }
let output = fopen(path, "w")!
guard fwrite(bytes, 1, byteCount, output) == byteCount, fclose(output) == 0 else {
  print("cannot write \(path)")
  exit(1)
}

/// A part of the decoder stays, the rest passes through.
func residency(_ share: Int) -> Residency {
  let sizes = units.layers.map(\.count).reduce(0, +) + units.head.map(\.bytes.count).reduce(0, +)
  return Residency(
    fitting: units,
    in: .init(decoder: sizes * share / 100, encoder: 6 * WeightUnits.window, image: .max),
    usesHeadInside: false, isConversation: true, streamsAll: share == 0)
}

struct Wrong: Error, CustomStringConvertible {
  let description: String
}

/// Owns the file: Swift 6.0.3 crashes over the life of one that is a local value here.
final class Mapped {
  let file: MappedFile

  init(path: String) throws { file = try MappedFile(path: path) }
}

func stress() throws -> Int {
  var checked = 0
  let mapped = try Mapped(path: path)
  let all = units.all
  for round in 0..<60 {
    let stream = try WeightStream(
      residency([0, 40, 70][round % 3]), mapped.file.pages, method: round % 2 == 0 ? .touch : .populate,
      dropsCache: false, locks: false)
    for pass in 0..<6 {
      if pass % 3 == 0 { stream.beginEncoding() }
      let first = pass % 3 == 0 ? 0 : units.visionCount
      for index in first..<all.count {
        if index == units.visionCount && first == 0 { stream.endEncoding() }
        try stream.acquire(index)
        let range = all[index]
        guard mapped.file.bytes[range.lowerBound] == bytes[range.lowerBound],
          mapped.file.bytes[range.upperBound - 1] == bytes[range.upperBound - 1]
        else { throw Wrong(description: "unit \(index) has other bytes") }
        stream.release(index)
        checked += 1
      }
    }
    guard stream.loadedBytes > 0 else { throw Wrong(description: "nothing was read") }
  }
  return checked
}

do {
  print("acquired \(try stress()) units")
} catch {
  print("\(error)")
  exit(1)
}
