import Foundation
import Testing

@testable import PIOConvert

/// Two keys and two tensors of one block.
private func small() -> GGUFForge {
  var forge = GGUFForge()
  forge["general.architecture"] = GGUFForge.string("llama")
  forge["some.list"] = GGUFForge.ints([1, -2, 3])
  forge.tensors = ["a", "b"].map {
    GGUFForge.Tensor(name: $0, type: 2, dims: [32, 1], data: [UInt8](repeating: 7, count: 18))
  }
  return forge
}

private func error(_ bytes: [UInt8]) -> GGUFError? {
  do throws(GGUFError) {
    _ = try GGUFHeader(bytes, fileByteCount: bytes.count)
    return nil
  } catch {
    return error
  }
}

private func error(_ change: (inout GGUFForge) -> Void) -> GGUFError? {
  var forge = small()
  change(&forge)
  return error(forge.bytes)
}

@Suite struct GGUFHeaderTests {
  @Test func readsWhatWasWritten() throws {
    let bytes = small().bytes
    let header = try GGUFHeader(bytes, fileByteCount: bytes.count)
    #expect(header.tensors.map(\.name) == ["a", "b"])
    #expect(header.tensors.map(\.shape) == [[1, 32], [1, 32]])
    #expect(header.tensors.allSatisfy { bytes[$0.offset] == 7 && $0.byteCount == 18 })
    #expect(header.numbers(header.values["some.list"]!) == [1, -2, 3])
    #expect(error(bytes) == nil)
  }

  /// Whatever a file is cut to, it is refused, and its front says how much is missing.
  @Test func refusesAFileCutAtAnyByte() throws {
    let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: goldenGGUF("yarn-padded"))))
    let header = try GGUFHeader(whole, fileByteCount: whole.count)
    let start = header.tensors[0].offset
    let counts = Array(0..<4096) + Array(stride(from: 4096, to: whole.count - 32, by: 61))
    for count in counts {
      let found = error(Array(whole[..<count]))
      // An array is refused at its count already.
      if case .key(_, let problem)? = found, problem.contains("room for") { continue }
      guard case .truncated(_, let needed, let there)? = found else {
        #expect(found == .notGGUF && count < 4, "\(count): \(String(describing: found))")
        continue
      }
      #expect(needed > count && there == count)
      // A longer file with the same front is asked for more, not refused.
      guard count < start else { continue }
      #expect(throws: GGUFError.self) {
        try GGUFHeader(Array(whole[..<count]), fileByteCount: whole.count)
      }
    }
  }

  @Test func survivesAnyFlippedByte() throws {
    let whole = small().bytes
    for index in whole.indices {
      for bit in 0..<8 {
        var bytes = whole
        bytes[index] ^= 1 << bit
        guard let header = try? GGUFHeader(bytes, fileByteCount: bytes.count) else { continue }
        for tensor in header.tensors {
          #expect(tensor.offset >= 0 && tensor.offset + tensor.byteCount <= bytes.count)
        }
        for value in header.values.values {
          _ = header.strings(value)
          _ = header.numbers(value)
        }
      }
    }
  }

  // What broke other readers of this format, one by one.
  @Test func refusesCountsThatWouldWrap() {
    for count in [.max, 1 << 61, 1 << 32, 65_537] as [UInt64] {
      #expect(error { $0.keyCount = count } == .tooMany(what: "keys", found: count, limit: 65_536))
      #expect(
        error { $0.tensorCount = count } == .tooMany(what: "tensors", found: count, limit: 65_536))
    }
  }

  @Test func refusesLengthsBeyondTheFile() {
    for count in [.max, .max - 7, 1 << 63, 1 << 40, 4_000] as [UInt64] {
      let string = error { $0["x"] = le(UInt32(8)) + le(count) }
      guard case .truncated("metadata", let needed, let found)? = string else {
        Issue.record("\(count): \(String(describing: string))")
        continue
      }
      #expect(needed > found)
      for type in [0, 5, 8, 12] as [UInt32] {
        let array = error { $0["x"] = le(UInt32(9)) + le(type) + le(count) }
        guard case .key("x", let problem)? = array else {
          Issue.record("\(count) of \(type): \(String(describing: array))")
          continue
        }
        #expect(problem.contains("more than the file has room for"))
      }
    }
  }

  @Test(
    arguments: [
      ([1 << 31, 1], "dimension"), ([0, 1], "dimension"), ([.max, 2], "dimension"),
      ([1 << 30, 1 << 30, 1 << 30], "overflows"), ([1 << 30, 1 << 30, 8], "overflows"),
      ([48, 1], "multiple of 32"), ([], "dimensions"), ([32, 1, 1, 1, 1], "dimensions"),
    ] as [([UInt64], String)])
  func refusesShapesThatWouldWrap(dims: [UInt64], text: String) {
    let found = error { $0.tensors[1].dims = dims }
    guard case .tensor("b", let problem)? = found else {
      Issue.record("\(dims): \(String(describing: found))")
      return
    }
    #expect(problem.contains(text), "\(problem)")
  }

  /// "Bleeding Llama": data declared outside the file.
  @Test func refusesTensorsOutsideTheFile() {
    guard case .truncated? = error({ $0.tensors[1].dims = [32, 1 << 20] }) else {
      Issue.record("a tensor longer than the file")
      return
    }
    for offset in [.max, .max - 31, 1 << 62, 0, 33, 64] as [UInt64] {
      guard case .tensor("b", _)? = error({ $0.tensors[1].offset = offset }) else {
        Issue.record("offset \(offset)")
        continue
      }
    }
  }

  @Test func refusesAlignmentsThatAreNone() {
    for alignment in [0, 3, 48, 1 << 17, .max] as [UInt32] {
      guard
        case .key("general.alignment", _)? = error({
          $0["general.alignment"] = GGUFForge.uint32(alignment)
        })
      else {
        Issue.record("alignment \(alignment)")
        continue
      }
    }
    let found = error {
      $0.alignment = 64
      $0["general.alignment"] = GGUFForge.uint32(64)
    }
    #expect(found == nil)
  }

  @Test func refusesWhatStandsTwiceOrIsNoName() {
    #expect(
      error { $0.keys.append($0.keys[0]) }
        == .key(name: "general.architecture", problem: "is a duplicate"))
    #expect(error { $0.tensors[1].name = "a" } == .tensor(name: "a", problem: "is a duplicate"))
    for name in ["", "a b", "\u{1b}[2J", "é", String(repeating: "x", count: 257)] {
      guard case .tensor? = error({ $0.tensors[0].name = name }) else {
        Issue.record("\(name.debugDescription)")
        continue
      }
      guard case .key? = error({ $0.keys[0].name = name }) else {
        Issue.record("\(name.debugDescription)")
        continue
      }
    }
  }

  @Test func refusesUnknownTypes() {
    for type in [13, 99, .max] as [UInt32] {
      #expect(
        error { $0["x"] = le(type) + le(UInt64(0)) }
          == .key(name: "x", problem: "has the unknown type \(type)"))
    }
    #expect(
      error { $0["x"] = le(UInt32(9)) + le(UInt32(9)) + le(UInt64(0)) }
        == .key(name: "x", problem: "is an array of arrays, which is not supported"))
    #expect(
      error { $0["x"] = GGUFForge.bool(2) }
        == .key(name: "x", problem: "is a boolean with the value 2, not 0 or 1"))
    for type in [4, 5, 36, 99, 1 << 31, .max] as [UInt32] {
      #expect(
        error { $0.tensors[0].type = type }
          == .tensor(name: "a", problem: "has the unknown type \(type)"))
    }
  }

  @Test func refusesOtherVersionsAndByteOrders() {
    #expect(error { $0.version = 2 } == nil)
    #expect(error { $0.version = 1 } == .unsupportedVersion(found: 1))
    #expect(error { $0.version = 4 } == .unsupportedVersion(found: 4))
    #expect(error { $0.version = UInt32(3).byteSwapped } == .bigEndian)
    #expect(error(Array("GGML".utf8) + [UInt8](repeating: 0, count: 60)) == .notGGUF)
  }
}
