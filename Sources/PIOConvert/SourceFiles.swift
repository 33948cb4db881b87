import Glibc
import PIOFormat
import PIOThreads

/// The files of a source that decide the result, for the provenance of what is made of them.
struct SourceFiles {
  private struct File {
    let name: String
    let path: String
  }
  /// Sorted by name.
  private let files: [File]

  init(_ checkpoint: Checkpoint) throws(ConvertError) {
    let folder = checkpoint.folder
    var names = checkpoint.names
    for name in [
      Checkpoint.index, "chat_template.jinja", "chat_template.json", "config.json",
      "generation_config.json", "preprocessor_config.json", "processor_config.json",
      "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    ] where try SourceFile.exists("\(folder)/\(name)") { names.append(name) }
    files = names.sorted().map { File(name: $0, path: "\(folder)/\($0)") }
  }

  init(_ files: [GGUFFile]) {
    self.files = files.map { File(name: $0.name, path: $0.file.path) }
      .sorted { $0.name < $1.name }
  }

  /// The file that `path` is too, under whatever name.
  func file(at path: String) -> String? {
    var target = stat()
    guard stat(path, &target) == 0 else { return nil }
    return files.first { file in
      var status = stat()
      return stat(file.path, &status) == 0 && status.st_dev == target.st_dev
        && status.st_ino == target.st_ino
    }?.name
  }

  /// The list with digests of the right length.
  var placeholders: [Provenance.SourceFile] {
    files.map { Provenance.SourceFile(name: $0.name, sha256: String(repeating: "0", count: 64)) }
  }

  /// The list with SHA-256 digests. Each thread has a file at a time.
  func hash(
    _ pool: ThreadPool, _ progress: (ConvertProgress) -> Bool
  ) throws(ConvertError) -> [Provenance.SourceFile] {
    var jobs: [HashJob] = []
    for file in files { jobs.append(HashJob(try SourceFile(path: file.path))) }
    let total = jobs.reduce(0) { $0 + $1.file.byteCount }
    var active = jobs.filter { !$0.isDone }
    while !active.isEmpty {
      let batch = Array(active.prefix(pool.threadCount))
      pool.run(batch.count) { task, _ in batch[task].advance() }
      for job in batch { if let error = job.error { throw error } }
      active.removeAll(where: \.isDone)
      let done = jobs.reduce(0) { $0 + $1.offset }
      guard progress(ConvertProgress(step: .hashing, doneBytes: done, totalBytes: total)) else {
        throw .cancelled
      }
    }
    return zip(files, jobs).map {
      Provenance.SourceFile(name: $0.name, sha256: $1.digest())
    }
  }
}

/// One file on its way through the hash.
private final class HashJob {
  let file: SourceFile
  private(set) var offset = 0
  private(set) var error: ConvertError?
  private var hash = SHA256()

  init(_ file: SourceFile) { self.file = file }

  var isDone: Bool { offset == file.byteCount }

  /// The next 16 MiB.
  func advance() {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    let end = min(file.byteCount, offset + (16 << 20))
    while offset < end {
      let chunk = UnsafeMutableRawBufferPointer(
        rebasing: buffer[..<min(buffer.count, end - offset)])
      do throws(ConvertError) { try file.read(into: chunk, at: offset) } catch {
        self.error = error
        return
      }
      hash.update(UnsafeRawBufferPointer(chunk))
      offset += chunk.count
    }
  }

  func digest() -> String { hash.finish() }
}
