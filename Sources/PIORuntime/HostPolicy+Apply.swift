import COpenBLAS
import PIOBase
import PIOFormat

extension HostPolicy {
  /// Does what it allows to the process as a whole; a second time changes nothing.
  ///
  /// What it allows to a thread or to an image is done where these are: `bindCallingThread`, `ImageLimits.trimsHeap`.
  public func apply() {
    if handlesReadErrors { installReadErrorHandler() }
    if setsEnvironment { pio_blas_set_environment() }
  }
}
