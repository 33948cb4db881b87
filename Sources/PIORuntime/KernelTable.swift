import CPIOKernels

/// The kernels of that name, or the best this CPU has, after their self-test.
package func kernelTable(_ isa: String?) throws(RuntimeError) -> UnsafePointer<pio_kernels> {
  guard let table = isa.map({ pio_kernels_named($0) }) ?? pio_kernels_best() else {
    throw .unknownISA(name: isa ?? "", known: runnableKernels().joined(separator: ", "))
  }
  guard pio_kernels_self_test(table) == 0 else {
    throw .kernelsDisagree(isa: String(cString: table.pointee.isa))
  }
  return table
}

/// Names of all kernels that this CPU and this build can run, the oracle first.
package func runnableKernels() -> [String] {
  var names: [String] = []
  while let table = pio_kernels_runnable(names.count) {
    names.append(String(cString: table.pointee.isa))
  }
  return names
}
