import Foundation
import PIOFormat
import Testing

@testable import PIORuntime

/// A runtime may go at any time, also while its helper thread reads the next token's first layer.
struct LifetimeTests {
  @Test(arguments: [FilePages.Method.touch, .populate])
  func aRuntimeCanGoWhileItReadsAhead(_ method: FilePages.Method) throws {
    let path = try Files.largeLayers()
    var limits = Limits()
    limits.imageCount = 0
    limits.contextRows = 4
    limits.stream = .on
    for _ in 0..<6 {
      forgetPages(path)
      // The last block of the head asks for the first layer: the helper reads it when the runtime goes.
      let runtime = try Runtime(ModelFile(path: path), limits: limits, readAhead: method)
      let slot = try runtime.begin(Sampling())
      _ = try runtime.decode(5, slot)
    }
  }

  /// So that the next reader waits for the disk.
  private func forgetPages(_ path: String) {
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    fsync(descriptor)
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  }
}

extension Files {
  /// A text decoder of two layers of 24 MiB, all weights 0: a layer takes a while to read.
  static func largeLayers() throws -> String {
    try made("large-layers.piom") { path in
      let tiny = try ModelFile(
        path: model("Tests/Golden/checkpoints/text-only", weights: .f32, vision: .f32))
      var config = tiny.config
      config.text.layerCount = 2
      config.text.hiddenDim = (24 << 20) / (3 * 4 * config.text.dim)
      let specs = tensorSpecs(for: config)
      var writer = try ModelWriter(
        path: path, config: config, encodings: specs.map { _ in .f32 },
        tokenizerSection: Array(tiny.tokenizerSection),
        provenance: Provenance(converter: "test", recipe: "f32", sources: []), replacing: true)
      let zeros = [UInt8](repeating: 0, count: 1 << 20)
      for tensor in writer.layout.tensors {
        for start in stride(from: 0, to: tensor.byteCount, by: zeros.count) {
          try zeros.prefix(tensor.byteCount - start).withUnsafeBytes { try writer.append($0) }
        }
      }
      try writer.finish()
    }
  }
}
