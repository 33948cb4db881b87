import PIOBase

extension ImagePreprocessing {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.choice(.imageFit, &fit)
    try coder.choice(.imageFilter, &filter)
    try coder.integer(.imageResizeTo, &resizeTo)
    try coder.float(.imageRescaleFactor, &rescaleFactor)
    try coder.floats(.imageMean, &mean)
    try coder.floats(.imageStd, &std)
    var color = Int(padColor.0) << 16 | Int(padColor.1) << 8 | Int(padColor.2)
    try coder.integer(.imagePadColor, &color)
    try check("imagePadColor", color, 0...0xFF_FFFF)
    padColor = (
      UInt8(truncatingIfNeeded: color >> 16), UInt8(truncatingIfNeeded: color >> 8),
      UInt8(truncatingIfNeeded: color)
    )
  }

  func validate(imageSize: Int) throws(ModelFileError) {
    // A crop is cut out of the resized image; the other fits resize to the input itself.
    try check(
      "image.resize_to", resizeTo, fit == .crop ? imageSize...8192 : imageSize...imageSize)
    try check("image.rescale_factor", rescaleFactor, 1e-9...1e3)
    for mean in [mean.0, mean.1, mean.2] { try check("image.mean", mean, -1e6...1e6) }
    for std in [std.0, std.1, std.2] { try check("image.std", std, 1e-6...1e6) }
  }
}
