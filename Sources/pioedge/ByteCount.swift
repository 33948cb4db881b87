import ArgumentParser

/// `256MiB`, `4GiB`, `65536`: a positive number of bytes.
struct ByteCount: ExpressibleByArgument {
  let value: Int

  init?(argument: String) {
    let digits = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let units: [Substring: Double] = [
      "": 1, "B": 1, "KiB": 1024, "MiB": 1_048_576, "GiB": 1_073_741_824,
    ]
    guard let unit = units[argument.dropFirst(digits.count)], let number = Double(digits) else {
      return nil
    }
    let bytes = (number * unit).rounded()
    guard bytes >= 1, bytes < 1e18 else { return nil }
    value = Int(bytes)
  }

  var defaultValueDescription: String { "\(value)" }
}

/// How much memory the process may have.
enum MemoryCap: ExpressibleByArgument {
  case auto
  case bytes(ByteCount)

  init?(argument: String) {
    if argument == "auto" {
      self = .auto
    } else if let count = ByteCount(argument: argument) {
      self = .bytes(count)
    } else {
      return nil
    }
  }
}
