import CPIOImage

/// A JPEG or PNG that is open: its header is read and within the limits, its rows are still to be decoded.
///
/// What is decoded has the size that `info` says: the image stays open from the header to the last row, so a file that
/// is replaced meanwhile changes nothing. It costs a descriptor and some hundred bytes until it is decoded, which closes
/// the file; the codec's memory is in use during a call alone.
public final class OpenImage {
  /// The path, or what stands for it in errors.
  public let name: String
  public let limits: ImageLimits
  private let header: pio_image_header
  private let handle: OpaquePointer

  /// Throws what is wrong with the file or its header, or the limit that it exceeds.
  public convenience init(path: String, limits: ImageLimits = ImageLimits()) throws(ImageError) {
    try self.init(name: path, limits) { handle, limits, header, error in
      pio_image_open(handle, path, limits, header, error)
    }
  }

  /// An encoded image in memory, which must outlive this one.
  public convenience init(
    bytes: UnsafeRawBufferPointer, name: String, limits: ImageLimits = ImageLimits()
  ) throws(ImageError) {
    try self.init(name: name, limits) { handle, limits, header, error in
      pio_image_open_bytes(
        handle, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, limits, header,
        error)
    }
  }

  private typealias Open = (
    _ handle: UnsafeMutablePointer<OpaquePointer?>, UnsafePointer<pio_image_limits>,
    UnsafeMutablePointer<pio_image_header>, UnsafeMutablePointer<pio_image_error>
  ) -> pio_image_code

  private init(name: String, _ limits: ImageLimits, _ open: Open) throws(ImageError) {
    var bounds = pio_image_limits()
    bounds.max_pixels = UInt64(clamping: limits.maxPixels)
    bounds.max_edge = UInt32(clamping: min(limits.maxEdge, Int(Int32.max) / 64))
    bounds.max_codec_bytes = UInt64(clamping: limits.maxCodecBytes)
    bounds.trims_heap = limits.trimsHeap ? 1 : 0
    var header = pio_image_header()
    var error = pio_image_error()
    var handle: OpaquePointer?
    let code = open(&handle, &bounds, &header, &error)
    guard code == PIO_IMAGE_OK, let handle else {
      throw ImageError(error, header, name: name, limits)
    }
    self.header = header
    self.handle = handle
    self.name = name
    self.limits = limits
  }

  deinit { pio_image_close(handle) }

  public var info: ImageInfo {
    let (width, height) = (Int(header.width), Int(header.height))
    return ImageInfo(
      format: header.format == PIO_IMAGE_PNG ? .png : .jpeg,
      width: header.orientation >= 5 ? height : width,
      height: header.orientation >= 5 ? width : height)
  }

  /// EXIF's, 1 to 8.
  var orientation: Int { Int(header.orientation) }

  /// Once: gives every row to the sink.
  func decode(into sink: inout RowSink) throws(ImageError) {
    var error = pio_image_error()
    let handle = handle
    let code = withUnsafeMutablePointer(to: &sink) { context in
      pio_image_decode(
        handle,
        { context, row, index in
          let sink = context!.assumingMemoryBound(to: RowSink.self)
          sink.pointee.add(row!, index: Int(index))
        }, context, &error)
    }
    guard code == PIO_IMAGE_OK else { throw ImageError(error, header, name: name, limits) }
  }
}

/// What takes the rows of an image as they are decoded: RGB, ascending.
struct RowSink {
  private var whole: PatchResizer
  /// For the tiles of a grid.
  private var grid: PatchResizer?

  init(_ whole: PatchResizer, grid: PatchResizer? = nil) {
    self.whole = whole
    self.grid = grid
  }

  mutating func add(_ row: UnsafePointer<UInt8>, index: Int) {
    whole.add(row, index: index)
    grid?.add(row, index: index)
  }

  mutating func finish() {
    whole.finish()
    grid?.finish()
  }
}

extension ImageError {
  fileprivate init(
    _ error: pio_image_error, _ header: pio_image_header, name: String, _ limits: ImageLimits
  ) {
    let message = withUnsafeBytes(of: error.message) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    let (width, height) = (Int(header.width), Int(header.height))
    self =
      switch error.code {
      case PIO_IMAGE_CANNOT_OPEN: .cannotOpen(path: name, errno: error.system_errno)
      case PIO_IMAGE_NOT_A_FILE: .notAFile(path: name)
      case PIO_IMAGE_UNKNOWN: .unknownFormat(path: name, found: message)
      case PIO_IMAGE_TRUNCATED: .truncated(path: name)
      case PIO_IMAGE_UNSUPPORTED: .unsupported(path: name, message: message)
      case PIO_IMAGE_TOO_LARGE:
        .tooManyPixels(path: name, width: width, height: height, maxPixels: limits.maxPixels)
      case PIO_IMAGE_EDGE_TOO_LONG:
        .edgeTooLong(path: name, width: width, height: height, maxEdge: limits.maxEdge)
      case PIO_IMAGE_NO_MEMORY:
        .codecMemory(
          path: name, message: message, neededBytes: Int(clamping: error.needed),
          maxBytes: limits.maxCodecBytes)
      default: .damaged(path: name, message: message)
      }
  }
}
