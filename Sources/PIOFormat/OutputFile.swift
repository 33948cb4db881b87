import Glibc

/// A file being written that has its name only once it is whole.
///
/// It has no name at all where the file system can do that (`O_TMPFILE`): then not even a killed
/// process leaves anything. Elsewhere, and for a moment where a file is replaced, it is `NAME.<process>.partial`. Whoever
/// writes it holds a lock on it (`flock`); what a killed process has left, and nobody holds, the next `OutputFile` of that
/// name removes.
struct OutputFile: ~Copyable {
  private let fd: Int32
  private let path: String
  private let replacing: Bool
  /// The name of the unfinished file; empty where it has none (O_TMPFILE).
  private var temporary: String

  /// Throws as `check` does, and where nothing can be written.
  ///
  /// `unnamed` false: do as on a file system without nameless files.
  init(path: String, replacing: Bool, unnamed: Bool = true) throws(ModelFileError) {
    try Self.check(path: path, replacing: replacing)
    removeLeftovers(of: path)
    let (fd, temporary) = try openTemporary(for: path, unnamed: unnamed)
    self.path = path
    self.replacing = replacing
    self.fd = fd
    self.temporary = temporary
  }

  /// Throws where a file cannot get the name `path`: it exists and is not to be replaced, is no
  /// regular file, is no name, or its folder is not there or not ours to write.
  static func check(path: String, replacing: Bool) throws(ModelFileError) {
    var status = stat()
    if lstat(path, &status) == 0 {
      // Nothing behind a link: neither a file to be replaced nor a free name.
      if status.st_mode & S_IFMT == S_IFLNK, stat(path, &status) != 0 {
        throw .notAFile(path: path)
      }
      guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
      guard replacing else { throw .exists(path: path) }
    } else if errno != ENOENT {
      throw .cannotWrite(path: path, errno: errno)
    }
    let nameByteCount = lastComponent(of: path).utf8.count
    guard nameByteCount > 0 else {
      throw .cannotWrite(path: path, errno: path.isEmpty ? ENOENT : EISDIR)
    }
    guard nameByteCount <= maxNameByteCount else {
      throw .cannotWrite(path: path, errno: ENAMETOOLONG)
    }
    guard access(folder(of: path), W_OK | X_OK) == 0 else {
      throw .cannotWrite(path: path, errno: errno)
    }
  }

  deinit {
    close(fd)
    if !temporary.isEmpty { unlink(temporary) }
  }

  /// Throws where the file system has no room for `byteCount` bytes, before hours of work.
  func checkSpace(_ byteCount: Int) throws(ModelFileError) {
    var status = statvfs()
    guard fstatvfs(fd, &status) == 0 else { return }
    let (free, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(
      by: UInt64(status.f_frsize))
    guard overflow || free >= UInt64(byteCount) else {
      throw .noSpace(path: path, neededBytes: byteCount, freeBytes: Int(clamping: free))
    }
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(ModelFileError) {
    let code = bytes.withUnsafeBytes { writeAll(fd, $0, offset) }
    guard code == 0 else { throw .cannotWrite(path: path, errno: code) }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(ModelFileError) {
    let code = writeAll(fd, bytes, offset)
    guard code == 0 else { throw .cannotWrite(path: path, errno: code) }
  }

  /// Reads the whole file back as any reader would, every checksum too.
  func check() throws(ModelFileError) {
    let path = "/proc/self/fd/\(fd)"
    guard access(path, R_OK) == 0 else { return try ModelFile(path: temporary).verify() }
    try ModelFile(path: path).verify()
  }

  /// Makes the bytes durable, gives the file its name, makes the name durable.
  mutating func commit() throws(ModelFileError) {
    guard fsync(fd) == 0 else { throw .cannotWrite(path: path, errno: errno) }
    if temporary.isEmpty { try nameUnnamed() }
    if !temporary.isEmpty { try rename() }
    let directory = open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { throw .cannotOpen(path: folder(of: path), errno: errno) }
    defer { close(directory) }
    // Some network file systems know no fsync of folders.
    guard fsync(directory) == 0 || errno == EINVAL else {
      throw .cannotWrite(path: path, errno: errno)
    }
  }

  private mutating func nameUnnamed() throws(ModelFileError) {
    let source = "/proc/self/fd/\(fd)"
    if linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 { return }
    guard errno == EEXIST else { throw .cannotWrite(path: path, errno: errno) }
    guard replacing else { throw .exists(path: path) }
    // A link replaces nothing, a rename does: the whole file gets a name for that one step.
    for attempt in 0..<100 {
      let name = temporaryName(path, attempt)
      if linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0 {
        temporary = name
        return
      }
      guard errno == EEXIST else { break }
    }
    throw .cannotWrite(path: path, errno: errno)
  }

  private mutating func rename() throws(ModelFileError) {
    if !replacing {
      // Unlike a rename, a link cannot overwrite what somebody else made in the meantime.
      if link(temporary, path) == 0 { return }  // `deinit` removes the other name
      guard errno != EEXIST else { throw .exists(path: path) }
      guard access(path, F_OK) != 0 else { throw .exists(path: path) }
    }
    guard Glibc.rename(temporary, path) == 0 else { throw .cannotWrite(path: path, errno: errno) }
    temporary = ""
  }
}

/// `O_TMPFILE`, a macro too complex to be imported; the number is the same on every Linux we run on.
private let temporaryFileFlag: Int32 = 0o20_000_000 | O_DIRECTORY

/// Of a folder's entry, on every file system we know (`NAME_MAX`).
private let maxNameByteCount = 255

/// In the folder of `path`; a name too long for the ending loses its own end.
private func temporaryName(_ path: String, _ attempt: Int) -> String {
  let ending = ".\(getpid())\(attempt > 0 ? "-\(attempt)" : "").partial"
  var stem = path
  var excess = lastComponent(of: path).utf8.count + ending.utf8.count - maxNameByteCount
  while excess > 0 { excess -= UTF8.width(stem.unicodeScalars.removeLast()) }
  return stem + ending
}

/// The name is empty where the file system can do without.
private func openTemporary(
  for path: String, unnamed: Bool
) throws(ModelFileError) -> (Int32, String) {
  if unnamed {
    let fd = open(folder(of: path), temporaryFileFlag | O_WRONLY | O_CLOEXEC, 0o666)
    if fd >= 0 {
      hold(fd)
      return (fd, "")
    }
  }
  for attempt in 0..<100 {
    let name = temporaryName(path, attempt)
    let fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if fd >= 0 {
      hold(fd)
      // Before it was held somebody else may have taken it for left behind.
      if isNamed(fd, name, in: AT_FDCWD) { return (fd, name) }
      close(fd)
      continue
    }
    guard errno == EEXIST else { break }
  }
  throw .cannotWrite(path: path, errno: errno)
}

/// Removes the unfinished files of `path` that no process holds.
private func removeLeftovers(of path: String) {
  guard let entries = opendir(folder(of: path)) else { return }
  defer { closedir(entries) }
  let descriptor = dirfd(entries)
  while let entry = readdir(entries) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: maxNameByteCount + 1) { String(cString: $0) }
    }
    if isTemporaryName(name, of: lastComponent(of: path)) { removeUnheld(name, in: descriptor) }
  }
}

/// Whether `temporaryName` makes such a name for a file called `target`.
private func isTemporaryName(_ name: String, of target: Substring) -> Bool {
  guard name.hasSuffix(".partial") else { return false }
  let numbered = name.dropLast(".partial".count)
  let stem = numbered.lastIndex(of: ".").map { numbered[..<$0] } ?? ""
  let number = numbered.dropFirst(stem.count + 1)
  guard !number.isEmpty, number.allSatisfy({ ("0"..."9").contains($0) || $0 == "-" }) else {
    return false
  }
  // The end of a long name gave way to the number.
  let isShortened = name.utf8.count > maxNameByteCount - 4
  return stem == target || isShortened && !stem.isEmpty && target.hasPrefix(stem)
}

private func removeUnheld(_ name: String, in folder: Int32) {
  let fd = openat(folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
  guard fd >= 0 else { return }
  defer { close(fd) }
  guard flock(fd, LOCK_EX | LOCK_NB) == 0, isNamed(fd, name, in: folder) else { return }
  unlinkat(folder, name, 0)
}

/// Waits for whoever looks whether the file is left behind.
private func hold(_ fd: Int32) {
  while flock(fd, LOCK_EX) != 0 && errno == EINTR {}
}

/// Whether `name` is this file, a regular one.
private func isNamed(_ fd: Int32, _ name: String, in folder: Int32) -> Bool {
  var (mine, named) = (stat(), stat())
  return fstat(fd, &mine) == 0 && fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0
    && mine.st_mode & S_IFMT == S_IFREG && mine.st_dev == named.st_dev
    && mine.st_ino == named.st_ino
}

/// 0, or the errno of the write that failed.
private func writeAll(_ fd: Int32, _ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Int32 {
  var done = 0
  while done < bytes.count {
    let count = pwrite(fd, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
    if count < 0 && errno == EINTR { continue }
    guard count > 0 else { return count < 0 ? errno : EIO }
    done += count
  }
  return 0
}

private func folder(of path: String) -> String {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
  return slash == path.startIndex ? "/" : String(path[..<slash])
}

private func lastComponent(of path: String) -> Substring {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path[...] }
  return path[path.utf8.index(after: slash)...]
}
