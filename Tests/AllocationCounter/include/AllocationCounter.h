// Preloaded (LD_PRELOAD) into `pioedge run`, in its plain text mode: counts calls of the allocator
// and of mmap, on all threads, in two spans that the tool's own system calls mark out:
//   prefill   from the last close() (the picture's file) to the first write to stdout (the first
//   text) decode    from there to the last write to stdout
// At the end the line "allocations: prefill P decode D writes W" is written to stderr.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H
#endif
