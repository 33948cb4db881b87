// Preloaded (LD_PRELOAD) into `pioedge run`, in its plain text mode or a chat: counts calls of the
// allocator and of mmap, on all threads, in two spans of every turn that the tool's own system
// calls mark out:
//   prefill   from the first pread() (a token's embedding), or the last close() behind it (a
//   image's
//             file), to the first write to stdout (the first text)
//   decode    from there to the last write to stdout that follows a step
// At the end the line "allocations: prefill P decode D writes W turns T" is written to stderr, each
// number the sum of all turns.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H
#endif
