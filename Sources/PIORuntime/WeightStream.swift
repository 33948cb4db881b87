import Glibc
import PIOFormat
import PIOThreads

/// Brings the weights of a pass into memory one unit ahead of their use, and drops behind what the plan does not keep.
///
/// One helper thread reads; the caller waits only for what is not there yet. Nothing allocates after `init`, which takes
/// 18 bytes a unit from the heap, in what the plan counts as the process: bookkeeping, none of it a tensor's.
final class WeightStream: @unchecked Sendable {
  private enum State: UInt8 {
    case absent, requested, loading, present
  }

  /// Bytes brought in since the start, whether from the disk or from the page cache.
  var loadedBytes: Int { signals.locked { loaded } }

  /// Under the mutex: the helper counts too.
  private var loaded = 0

  private let pages: FilePages
  private let method: FilePages.Method
  private let residency: Residency
  private let dropsCache: Bool
  private let locks: Bool
  private let ranges: UnsafeMutableBufferPointer<Range<Int>>
  private let streamed: UnsafeMutableBufferPointer<Bool>
  private let states: UnsafeMutableBufferPointer<State>
  private let visionCount: Int
  private let signals: Signals
  /// The unit that the helper should read next; nil: nothing. Under the mutex, as are the states.
  private var request: Int?
  private var failure: Int32 = 0
  private var isLockFailure = false
  private var isStopping = false
  private var helper = pthread_t()
  /// Between `startHelper` and `stop`; the caller's alone.
  private var isHelping = false

  /// Throws where the system grants no thread for the helper.
  ///
  /// - Parameters:
  ///   - dropsCache: what is dropped leaves the page cache too.
  ///   - locks: what stays is locked in memory.
  init(
    _ residency: Residency, _ pages: FilePages, method: FilePages.Method? = nil, dropsCache: Bool,
    locks: Bool
  ) throws(ThreadError) {
    self.residency = residency
    self.pages = pages
    self.method = method ?? pages.bestMethod
    self.dropsCache = dropsCache
    self.locks = locks
    let units = residency.units
    visionCount = units.visionCount
    ranges = .allocate(capacity: units.all.count)
    _ = ranges.initialize(from: units.all)
    streamed = .allocate(capacity: units.all.count)
    _ = streamed.initialize(
      from: units.vision.map { _ in residency.streamsVision } + residency.streams)
    states = .allocate(capacity: units.all.count)
    states.initialize(repeating: .absent)
    signals = Signals()
    if !residency.isPlain {
      pages.separate(units.boundaries)
      try startHelper()
    }
  }

  deinit {
    stop()
    signals.destroy()
    ranges.deallocate()
    streamed.deallocate()
    states.deallocate()
  }

  /// Waits for the helper to end: it reads the mapped file, so whoever owns the file calls this before the file goes.
  /// Nothing is read ahead any more. A second call does nothing.
  func stop() {
    guard isHelping else { return }
    signals.locked { isStopping = true }
    signals.wake()
    pthread_join(helper, nil)
    isHelping = false
  }

  // MARK: The caller's side

  /// Unit indices: the vision tower's, then the decoder's layers, then the head's blocks.
  func layer(_ index: Int) -> Int { visionCount + index }
  func headBlock(_ index: Int) -> Int { visionCount + residency.units.layers.count + index }
  var headBlocks: [WeightUnits.HeadBlock] { residency.units.head }

  /// Returns when unit `index` can be read; from here on the next one that is missing is read.
  ///
  /// `wraps`: behind the last head block the next token's first layer follows; false inside a pass.
  func acquire(_ index: Int, wraps: Bool = true) throws(RuntimeError) {
    if residency.isPlain { return }
    let mustLoad = signals.locked { () -> Bool in
      while states[index] == .loading { signals.wait() }
      guard states[index] != .present else { return false }
      // Not begun: whoever waits anyway reads it.
      if request == index { request = nil }
      states[index] = .loading
      return true
    }
    if mustLoad { load(index) }
    let failure = signals.locked { self.failure }
    guard failure == 0 else {
      throw isLockFailure
        ? .cannotLockWeights(errno: failure) : .cannotReadWeights(errno: failure)
    }
    readAhead(of: index, wraps: wraps)
  }

  /// The unit is not used any more in this pass.
  func release(_ index: Int) {
    guard !residency.isPlain, streamed[index] else { return }
    signals.locked { drop(index) }
  }

  /// Before an image is encoded: room for the tower.
  func beginEncoding() {
    if residency.isPlain { return }
    signals.locked {
      settle()
      for index in visionCount..<ranges.count {
        let isKept = index - visionCount < residency.keptWhileEncoding && !streamed[index]
        if !isKept { drop(index) }
      }
    }
  }

  /// Behind the last image of a prompt: the tower gives its memory back.
  func endEncoding() {
    if residency.isPlain { return }
    signals.locked {
      settle()
      for index in 0..<visionCount { drop(index) }
    }
  }

  // MARK: Under the mutex

  /// Takes back what is asked for and waits for what is being read.
  private func settle() {
    if let waiting = request { states[waiting] = .absent }
    request = nil
    for index in states.indices { while states[index] == .loading { signals.wait() } }
  }

  private func drop(_ index: Int) {
    while states[index] == .loading { signals.wait() }
    guard states[index] == .present else { return }
    states[index] = .absent
    let range = WeightUnits.droppable(
      ranges[index], isFollowedByHead: index >= headBlock(0) && index + 1 < ranges.count)
    if !range.isEmpty { pages.drop(range, fromCache: dropsCache) }
  }

  /// Asks for what the pass needs next: the following unit, or the next that does not stay.
  private func readAhead(of index: Int, wraps: Bool) {
    let isVision = index < visionCount
    let first = isVision ? 0 : visionCount
    let count = isVision ? visionCount : ranges.count - visionCount
    let end = first + count
    let isAsking = signals.locked { () -> Bool in
      guard request == nil else { return false }
      for step in 1..<max(1, count) {
        // The tower's pass ends; the decoder's begins again with the next token.
        if (isVision || !wraps) && index + step >= end { return false }
        let next = first + (index - first + step) % count
        let isMissing = states[next] == .absent
        if streamed[next] {
          // One streamed unit beside the one in use, no more.
          guard isMissing else { return false }
        } else {
          guard isMissing && step == 1 else { continue }
        }
        states[next] = .requested
        request = next
        return true
      }
      return false
    }
    if isAsking { signals.wake() }
  }

  // MARK: The helper's side

  private func load(_ index: Int) {
    var isLockFailure = false
    var failure = pages.populate(ranges[index], method)
    if failure == 0 && locks && !streamed[index] && index >= visionCount {
      failure = pages.lock(ranges[index])
      isLockFailure = failure != 0
    }
    signals.locked {
      if failure == 0 {
        loaded += ranges[index].count
        states[index] = .present
      } else {
        self.failure = failure
        self.isLockFailure = isLockFailure
        states[index] = .absent
      }
    }
    signals.wake()
  }

  private func serve() {
    while true {
      let index = signals.locked { () -> Int? in
        while request == nil && !isStopping { signals.wait() }
        guard !isStopping, let index = request else { return nil }
        request = nil
        states[index] = .loading
        return index
      }
      guard let index else { return }
      load(index)
    }
  }

  /// Its stack holds nothing but system calls.
  static let stackByteCount = 128 << 10

  private func startHelper() throws(ThreadError) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, Self.stackByteCount)
    // Unowned: `stop` joins the thread before anything it uses is gone.
    let failure = pthread_create(
      &helper, &attributes,
      { argument in
        Unmanaged<WeightStream>.fromOpaque(argument!).takeUnretainedValue().serve()
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
    guard failure == 0 else { throw ThreadError(wanted: 1, started: 0, errno: failure) }
    isHelping = true
  }
}

/// One mutex and one condition for both sides.
private struct Signals: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>

  init() {
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    changed = .allocate(capacity: 1)
    changed.initialize(to: pthread_cond_t())
    pthread_cond_init(changed, nil)
  }

  func destroy() {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    changed.deallocate()
    mutex.deallocate()
  }

  @inline(__always) func locked<Result>(_ body: () -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Inside `locked`.
  func wait() { pthread_cond_wait(changed, mutex) }

  func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(mutex)
  }
}
