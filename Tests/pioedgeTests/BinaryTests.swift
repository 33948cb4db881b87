import Testing

struct BinaryTests {
  /// Foundation brings ICU: 50 MB in a static executable, and start-up time in any. OpenBLAS costs every start 8 ms.
  @Test func theToolLoadsNeitherFoundationNorICUNorOpenBLAS() {
    // The loader lists what the executable needs instead of running it.
    let libraries = Tool.run([], environment: ["LD_TRACE_LOADED_OBJECTS": "1"]).output
    #expect(libraries.contains("libjpeg.so"))
    for library in ["libFoundation.so", "FoundationICU", "libicu", "libopenblas"] {
      #expect(!libraries.contains(library), "\(library)")
    }
  }
}
