import PIOBase
import Foundation
import Testing

@testable import PIOConvert

/// The header as a file of `count` bytes would be read; the error, if any.
private func headerError(_ file: Data) -> SafetensorsError? {
  file.withUnsafeBytes { bytes in
    do throws(SafetensorsError) {
      let prefix = UnsafeRawBufferPointer(rebasing: bytes.prefix(8))
      let count = try SafetensorsHeader.byteCount(prefix: prefix, fileByteCount: bytes.count)
      _ = try SafetensorsHeader(
        json: UnsafeRawBufferPointer(rebasing: bytes[8..<8 + count]), fileByteCount: bytes.count)
      return nil
    } catch {
      return error
    }
  }
}

private func file(_ json: String, dataCount: Int) -> Data {
  safetensors(Data(json.utf8), Data(count: dataCount))
}

private let small = file(
  #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"#
    + #""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}"#, dataCount: 20)

@Suite struct SafetensorsTests {
  @Test func readsASmallFile() throws {
    #expect(headerError(small) == nil)
  }

  @Test func refusesEveryPrefix() {
    for count in 0..<small.count {
      #expect(headerError(Data(small.prefix(count))) != nil, "\(count) bytes")
    }
  }

  @Test func refusesWhatStandsBehindTheLastTensor() {
    #expect(headerError(small + [0]) == .trailing(byteCount: 1))
  }

  @Test func survivesEveryFlippedHeaderByte() {
    for index in 0..<small.count - 20 {
      for bit in 0..<8 {
        var damaged = small
        damaged[index] ^= 1 << bit
        _ = headerError(damaged)
      }
    }
  }

  @Test(arguments: [UInt64.max, UInt64(Int64.max), 1 << 40, 100_000_001])
  func refusesAnAbsurdHeaderLengthWithoutReadingIt(count: UInt64) {
    let prefix = withUnsafeBytes(of: count.littleEndian) { Data($0) }
    #expect(
      headerError(prefix + [0x7B, 0x7D]) == .headerTooLong(byteCount: count, limit: 100_000_000))
  }

  @Test func saysHowMuchOfATruncatedFileIsThere() {
    let error = headerError(Data(small.dropLast(3)))
    #expect(error?.description == "is truncated: \(small.count - 3) of \(small.count) bytes")
    #expect(
      SafetensorsError.truncated(neededBytes: 5_678, foundBytes: 1_234).description
        == "is truncated: 1,234 of 5,678 bytes")
  }

  @Test(arguments: [
    // Overlap, gap, a start that is not the beginning; the sizes add up to the file all the same.
    (
      #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#,
      8
    ),
    (
      #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}}"#,
      8
    ),
    (#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#, 4),
    // Sizes that are not those of the shape, or overflow.
    (#"{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
    (#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, 1),
    (#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, 1),
    (#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}"#, 1),
    (#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,9223372036854775807]}}"#, 1),
    (#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#, 1),
    (#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, 1),
    (#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#, 1),
    (#"{"a":7}"#, 0),
    // The same name twice.
    (
      #"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
      0
    ),
    // Not this JSON.
    ("", 0), ("[]", 0), ("{", 0), (#"{"a"}"#, 0), (#"{"a":{}} x"#, 0), (#"{"a":1,}"#, 0),
  ])
  func refusesADamagedHeader(json: String, dataCount: Int) {
    let error = headerError(file(json, dataCount: dataCount))
    #expect(error != nil)
    #expect(error?.description.contains("\n") == false)
  }

  @Test func refusesEndlessNesting() {
    let deep = String(repeating: "[", count: 200_000)
    #expect(
      headerError(file("{\"a\":\(deep)", dataCount: 0))
        == .header(JSONError(offset: 69, problem: "nesting deeper than 64 levels")))
  }

  @Test func refusesMoreValuesThanAnEntryCanHave() {
    let long = "[" + String(repeating: "0,", count: 200_000) + "0]"
    guard case .header(let error)? = headerError(file("{\"a\":\(long)}", dataCount: 0)) else {
      Issue.record("accepted")
      return
    }
    #expect(error.problem == "more than 100000 values")
  }

  @Test func keepsTypesOfOtherTensorsByName() throws {
    let json = #"{"a":{"dtype":"X9","shape":[3],"data_offsets":[0,5]}}"#
    #expect(headerError(file(json, dataCount: 5)) == nil)
  }
}

@Suite struct JSONTests {
  private func parse(_ text: String) -> JSONValue? {
    Array(text.utf8).withUnsafeBytes { try? JSONReader.parse($0, nodeLimit: 100) }
  }

  @Test func readsEveryKindOfValue() {
    let text = #" {"a": [1, -2.5e1, true, false, null], "b": {"c": "x"}} "#
    #expect(
      parse(text)
        == .object([
          "a": .array([.integer(1), .number(-25), .bool(true), .bool(false), .null]),
          "b": .object(["c": .string("x")]),
        ]))
  }

  @Test(arguments: [
    (#""\u00e9\ud83d\ude00\n\"\\\/""#, "é😀\n\"\\/"), (#""é😀""#, "é😀"), (#""""#, ""),
  ])
  func decodesStrings(text: String, string: String) {
    #expect(parse(text) == .string(string))
  }

  @Test(arguments: [
    "", "tru", "nul", "01", "1.", ".5", "-", "1e", "+1", "\"\u{01}\"", #""\x""#, #""\ud800""#,
    #""\ud800\u0041""#, #""\udc00""#, "\"", "[1 2]", "[1,]", "{\"a\":1,}", "{\"a\":1 \"b\":2}",
    "{\"a\":1,\"a\":2}", "1e999", "NaN", "Infinity", "[", "{", "1 1",
  ])
  func refusesWhatIsNotJSON(text: String) {
    #expect(parse(text) == nil)
  }

  @Test func refusesBrokenUTF8() {
    let bytes: [UInt8] = [0x22, 0xC3, 0x28, 0x22]
    #expect(bytes.withUnsafeBytes { try? JSONReader.parse($0, nodeLimit: 9) } == nil)
  }
}
