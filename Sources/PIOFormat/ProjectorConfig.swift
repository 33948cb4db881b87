/// The two matrices, with an activation between them, that make features of the encoder rows of the decoder.
public struct ProjectorConfig: Equatable, Sendable {
  public var hiddenDim = 0
  public var activation = Activation.gelu
  public var bias = true

  public init() {}
}

extension ProjectorConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.integer(.projectorHiddenDim, &hiddenDim)
    try coder.choice(.projectorActivation, &activation)
    try coder.flag(.projectorBias, &bias)
  }

  func validate() throws(ModelFileError) {
    try check("projector.hidden_dim", hiddenDim, 1...maxDim)
  }

  func addSpecs(to specs: inout SpecList, inputDim: Int, outputDim: Int) {
    specs.section = .projector
    specs.linear("projector.linear1", hiddenDim, inputDim, bias: bias)
    specs.linear("projector.linear2", outputDim, hiddenDim, bias: bias)
  }
}
