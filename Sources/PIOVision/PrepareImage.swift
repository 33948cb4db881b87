/// Decodes an image that is open, once; turns it upright, resizes, crops or pads, and normalises it.
///
/// `patches` receives `(patchCount, 3·patchSize²)`, columns `(channel, y, x)`, values
/// `(pixel · rescaleFactor − mean) / std`. The pixels equal those of Hugging Face's CLIP and LLaVA image
/// processors over Pillow, with one difference: 16-bit grey is scaled to 8 bits, where Pillow clips.
/// `scratch`: at least `imageScratchByteCount` bytes of the image's limits. Apart from the codec's heap, which
/// `maxCodecBytes` bounds and which is free again on return, nothing is allocated.
/// Traps if `scratch` or `patches` is too small. After an error `patches` may be partly written.
public func prepareImage(
  _ image: OpenImage, _ preparation: ImagePreparation, scratch: UnsafeMutableRawBufferPointer,
  into patches: UnsafeMutableBufferPointer<Float>
) throws(ImageError) {
  try preparation.validate()
  precondition(
    patches.count >= preparation.patchCount * preparation.patchDim, "prepareImage: patches")
  var sink = RowSink(
    PatchResizer(
      orientation: image.orientation, PatchResizer.edges(image.info, preparation), preparation,
      scratch: scratch, into: .patches(patches)))
  try image.decode(into: &sink)
  sink.finish()
}

/// Scratch bytes that suffice for every image within the limits: the weights of both edges, the rows
/// in work, and a few smaller tables. It does not grow with `maxPixels`, only with the longest edge.
public func imageScratchByteCount(
  _ preparation: ImagePreparation, limits: ImageLimits = ImageLimits()
) -> Int {
  var bounded = preparation
  bounded.side = min(max(preparation.side, 1), ImagePreparation.maxSide)
  bounded.steps.resizeTo = min(max(preparation.steps.resizeTo, 1), ImagePreparation.maxSide)
  return PatchResizer.byteCount(bounded, maxEdge: maxEdge(limits))
}
