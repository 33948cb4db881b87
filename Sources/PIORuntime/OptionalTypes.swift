import PIOFormat

/// The optional types that a prompt's way through the layers copies, made before the memory of a run is counted.
///
/// Swift makes the description of a generic type when it first needs it, on the heap. Other compilers copy such optionals
/// in place; 6.0.3 (Debian 13's) copies large ones, and any that lie in a large struct, by their description.
struct OptionalTypes {
  private let made: [Any.Type] = [
    UnsafeMutablePointer<Float>?.self, UnsafeMutablePointer<Int8>?.self,
    UnsafeMutablePointer<Int32>?.self, UnsafeMutablePointer<UInt8>?.self,
    UnsafePointer<Float>?.self, UnsafeMutableRawPointer?.self, UnsafeRawPointer?.self,
    Product?.self, VisualRoute?.self, LayerCache?.self, Saliency?.self, VisionZip?.self,
    Probe?.self, VisionEncoder?.self, VisionConfig?.self, Pruning?.self, Sampling?.self,
    Int32?.self, HeadNorm?.self, GridZip?.self, LearnedPlaces?.self,
  ]
}
