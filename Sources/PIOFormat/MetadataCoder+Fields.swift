/// Fields of other types than those of the metadata.
extension MetadataCoder {
  mutating func flag(_ key: MetadataKey, _ value: inout Bool) throws(ModelFileError) {
    var number = value ? 1 : 0
    try integer(key, &number)
    try check("\(key)", number, 0...1)
    value = number == 1
  }

  /// Written where it is true alone.
  mutating func optionalFlag(_ key: MetadataKey, _ value: inout Bool) throws(ModelFileError) {
    guard codes(key, isPresent: value) else { return }
    var number = 1
    try integer(key, &number)
    try check("\(key)", number, 1...1)
    value = true
  }

  mutating func choice<T: RawRepresentable & CaseIterable>(
    _ key: MetadataKey, _ value: inout T
  ) throws(ModelFileError) where T.RawValue == UInt8 {
    var number = Int(value.rawValue)
    try integer(key, &number)
    guard let found = T.allCases.first(where: { Int($0.rawValue) == number }) else {
      let known = T.allCases.map { "\($0.rawValue)" }.joined(separator: ", ")
      throw .outOfBounds(field: "\(key)", found: "\(number)", allowed: "one of " + known)
    }
    value = found
  }

  mutating func token(_ key: MetadataKey, _ value: inout Int32) throws(ModelFileError) {
    var number = Int(value)
    try integer(key, &number)
    try check("\(key)", number, -1...Int(Int32.max))
    value = Int32(number)
  }

  mutating func floats(
    _ key: MetadataKey, _ value: inout (Float, Float, Float)
  ) throws(ModelFileError) {
    var list = [value.0, value.1, value.2]
    try floats(key, &list)
    guard list.count == 3 else {
      throw .metadata(key: "\(key)", problem: "\(list.count) numbers, needed 3")
    }
    value = (list[0], list[1], list[2])
  }
}
