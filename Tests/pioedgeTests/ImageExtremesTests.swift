import Foundation
import PIOVision
import Testing

/// Images of one pixel, of the longest edge, of forty million pixels and turned ones, for the families that choose how many
/// tokens an image becomes: all stay inside the plan.
struct ImageExtremesTests {
  static let families = [
    "smol-shuffle-4", "smol-shuffle-3", "qwen2-flat", "qwen25-windows", "qwen3-deepstack",
  ]

  private func run(_ model: String, _ image: String) -> Tool.Result {
    Tool.run([
      "run", model, "--image", image, "What?", "--max-tokens", "2", "--json",
      // An edge may be four times its root.
      "--max-image-pixels", "268500000",
    ])
  }

  /// What the image was resized to, once the run has kept to its plan.
  private func resized(_ model: String, _ image: String) throws -> (width: Int, height: Int) {
    let found = run(model, image)
    try #require(found.status == 0, "\(image): \(found.error)")
    let memory = try #require(found.json["memory"] as? [String: Int])
    #expect(memory["peak_resident_bytes"]! <= memory["planned_peak_bytes"]!, "\(image)")
    let prepared = try #require((found.json["images"] as? [[String: Int]])?.first)
    return (prepared["resized_width"]!, prepared["resized_height"]!)
  }

  private func drawn(_ width: Int, _ height: Int) throws -> String {
    let path = Tool.scratch.appendingPathComponent("\(width)x\(height)-\(UUID().uuidString).png")
    let pixels = [UInt8](repeating: 120, count: 3 * width * height)
    try Data(encodePNG(pixels, width: width, height: height)).write(to: path)
    return path.path
  }

  @Test(arguments: families)
  func theyStayInsideThePlan(_ name: String) throws {
    try Tool.withModel(name) { model in
      for (width, height) in [(1, 1), (8000, 5000), (200, 1)] {
        let image = try drawn(width, height)
        defer { try? FileManager.default.removeItem(atPath: image) }
        let size = try resized(model, image)
        #expect(size.width >= size.height && size.height >= 1)
      }
      let long = try drawn(65_500, 1)
      defer { try? FileManager.default.removeItem(atPath: long) }
      guard name.hasPrefix("qwen") else {
        _ = try resized(model, long)
        return
      }
      let refused = run(model, long)
      #expect(refused.status == 1 && refused.error.contains("65500"), "\(refused.error)")
      #expect(refused.error.split(separator: "\n").count == 1)
    }
  }

  /// EXIF says how an image stands: its size and its shape are those of what a person sees.
  @Test(arguments: families)
  func aTurnedImageIsTakenUpright(_ name: String) throws {
    // 360 x 290 in the file.
    let turned = Tool.repository.appendingPathComponent(
      "Tests/Golden/images/large_orientation_6.jpg")
    try Tool.withModel(name) { model in
      let size = try resized(model, turned.path)
      #expect(size.height >= size.width)
      let found = run(model, turned.path)
      let prepared = try #require((found.json["images"] as? [[String: Int]])?.first)
      #expect(prepared["width"] == 290 && prepared["height"] == 360)
    }
  }
}
