import Glibc

/// Writes a whole file. A regular file of that name is replaced in one step once the new one is whole and durable: until
/// then, and where writing fails, the old one is as it was.
///
/// What is no regular file, a device or a pipe, is written where it is, and neither removed nor renamed; so are the
/// links in `/dev` and `/proc`, which stand for what is open. Another link stays a link: the file that it leads to is
/// replaced.
public func writeFile(_ bytes: [UInt8], to path: String) throws(ModelFileError) {
  guard let target = replaceablePath(path) else { return try writeInPlace(bytes, to: path) }
  var file = try OutputFile(path: target, replacing: true)
  try file.write(bytes, at: 0)
  try file.commit()
}

/// The name that a new file takes; nil: `path` is to be written in place.
private func replaceablePath(_ path: String) -> String? {
  var status = stat()
  guard stat(path, &status) == 0 else { return path }
  guard status.st_mode & S_IFMT == S_IFREG else { return nil }
  guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFLNK else { return path }
  if path.hasPrefix("/dev/") || path.hasPrefix("/proc/") { return nil }
  guard let resolved = realpath(path, nil) else { return path }
  defer { free(resolved) }
  return String(cString: resolved)
}

private func writeInPlace(_ bytes: [UInt8], to path: String) throws(ModelFileError) {
  let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY)
  guard descriptor >= 0 else { throw .cannotWrite(path: path, errno: errno) }
  var code = bytes.withUnsafeBytes { writeAll(descriptor, $0) }
  if close(descriptor) != 0 && code == 0 { code = errno }
  guard code == 0 else { throw .cannotWrite(path: path, errno: code) }
}

/// One after another, as a pipe takes them. 0, or the errno of the write that failed.
private func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
  var done = 0
  while done < bytes.count {
    let count = write(descriptor, bytes.baseAddress! + done, bytes.count - done)
    if count < 0 && errno == EINTR { continue }
    guard count > 0 else { return count < 0 ? errno : EIO }
    done += count
  }
  return 0
}
