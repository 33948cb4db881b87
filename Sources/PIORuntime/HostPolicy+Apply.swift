import COpenBLAS
import Glibc
import PIOBase
import PIOFormat

extension HostPolicy {
  /// Does what it allows to the process as a whole; a second time changes nothing.
  ///
  /// What it allows to a thread or to an image is done where these are: `bindCallingThread`, `ImageLimits.trimsHeap`.
  public func apply() {
    if holdsStandardStreams { holdStandardStreams() }
    if ignoresFileSizeSignal { signal(SIGXFSZ, SIG_IGN) }
    if handlesReadErrors { installReadErrorHandler() }
    if setsEnvironment { pio_blas_set_environment() }
  }
}

private func holdStandardStreams() {
  for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 && errno == EBADF {
    // It gets the lowest free number, which is this one. Open the wrong way round: its use stays an error.
    _ = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
  }
}
