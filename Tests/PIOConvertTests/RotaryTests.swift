import PIOBase
import Foundation
import Testing

@testable import PIOConvert

@Suite struct RotaryTests {
  /// `config` as it would stand in config.json.
  private func frequencies(_ json: Data, headDim: Int) throws -> RotaryFrequencies {
    let value = try json.withUnsafeBytes { try JSONReader.parse($0, nodeLimit: 1000) }
    guard case .object(let members) = value else { throw JSONError(offset: 0, problem: "") }
    let config = ConfigObject(file: "config.json", members: members)
    return try RotaryFrequencies(
      config, headDim: headDim,
      maxPositions: try config.int("max_position_embeddings", default: 2048))
  }

  @Test func equalsTransformersToTheLastBits() throws {
    let url = repository.appendingPathComponent("Tests/Golden/rotary/frequencies.json")
    let cases =
      try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as! [[String: Any]]
    #expect(cases.count >= 12)
    for item in cases {
      let name = item["name"] as! String
      let wanted = (item["frequencies"] as! [Double]).map { Float($0) }
      let found = try frequencies(
        JSONSerialization.data(withJSONObject: item["config"]!), headDim: item["head_dim"] as! Int)
      #expect(found.frequencies.count == wanted.count, "\(name)")
      for (a, b) in zip(found.frequencies, wanted) {
        // torch's pow is good to one unit in the last place, and a few operations follow.
        #expect(abs(a - b) <= 4 * b.ulp, "\(name): \(a) and \(b)")
      }
      #expect(abs(found.attentionFactor - (item["attention_factor"] as! Double)) < 1e-12, "\(name)")
    }
  }

  @Test(arguments: [
    (#"{"rope_scaling":{"type":"dynamic","factor":2}}"#, "'dynamic' is not supported"),
    (#"{"rope_parameters":{"rope_type":"longrope"}}"#, "'longrope' is not supported"),
    (#"{"rope_scaling":{"type":"linear"}}"#, "factor is missing"),
    (#"{"rope_scaling":{"type":"linear","factor":0}}"#, "factor is 0.0"),
    (#"{"rope_scaling":{"rope_type":"llama3","factor":8}}"#, "low_freq_factor is missing"),
    (#"{"rope_theta":"big"}"#, "rope_theta is not a number"),
    (#"{"rope_theta":0}"#, "rope_theta is 0.0"),
    (#"{"partial_rotary_factor":0.5}"#, "partial_rotary_factor 0.5 is not supported"),
    (#"{"rope_scaling":"yarn"}"#, "rope_scaling is not an object"),
  ])
  func refusesByName(config: String, message: String) {
    do {
      _ = try frequencies(Data(config.utf8), headDim: 64)
      Issue.record("accepted")
    } catch {
      #expect("\(error)".contains(message), "\(error)")
    }
  }
}
