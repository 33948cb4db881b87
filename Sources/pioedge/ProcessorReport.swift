import Glibc
import PIORuntime
import PIOThreads

/// What `inspect --cpu` prints.
struct ProcessorReport: Encodable {
  var cpu = processorName()
  /// Those that run unless `--threads` says otherwise.
  var threads = defaultThreadCount()
  var processors = availableProcessors().count
  /// The kernels in use, and all that could be.
  var isa: String
  var runnable = runnableKernels()
  /// What a start spends on holding the kernels against their scalar twins.
  var selfTestMs: Double
  var pageBytes = sysconf(Int32(_SC_PAGESIZE))

  init() throws(RuntimeError) {
    let start = ProcessStatus.monotonicMilliseconds
    isa = String(cString: try kernelTable(kernelsFromEnvironment()).pointee.isa)
    selfTestMs = ProcessStatus.monotonicMilliseconds - start
  }

  var text: String {
    table(
      [
        ["processor", cpu],
        ["threads", "\(threads) of \(processors) processors that this process may use"],
        ["kernels", "\(isa), self-test passed in \(decimal(selfTestMs, 2)) ms"],
        ["runnable", "\(runnable.joined(separator: ", ")) (PIOEDGE_ISA forces one)"],
        ["page size", "\(pageBytes) bytes"],
      ], right: [])
  }
}
