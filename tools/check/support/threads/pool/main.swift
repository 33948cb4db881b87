// What ThreadSanitizer watches: jobs shorter than a wake-up, plain memory that the next job reads,
// sleeping workers, more threads than cores, pools that come and go. See tools/check/threads.
#if canImport(Glibc)
  import Glibc
#endif

let cells = UnsafeMutablePointer<Int>.allocate(capacity: 64)
cells.initialize(repeating: 0, count: 64)
var expected = 0

struct Step: ParallelBody {
  let cells: UnsafeMutablePointer<Int>
  let round: Int
  func run(task: Int, thread: Int) { cells[(task + round) % 64] += 1 }
}

for threads in [2, 3, 8] {
  let pool = try ThreadPool(threadCount: threads)
  for round in 0..<5000 {
    let count = round % 64 + 1
    pool.run(count, Step(cells: cells, round: round))
    expected += count
    if round % 1000 == 0 { usleep(30_000) }  // far above the spin: workers sleep
  }
}
for round in 0..<100 {
  let pool = try ThreadPool(threadCount: 4)
  pool.run(8, Step(cells: cells, round: round))
  expected += 8
}
let total = (0..<64).reduce(0) { $0 + cells[$1] }
guard total == expected else {
  print("lost work: \(total) of \(expected)")
  exit(1)
}
print("ran \(expected) tasks")
