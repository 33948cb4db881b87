// The float operations with AVX-512.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#include "../float/avx512.h"
#include "../float/operations.h"
#pragma clang attribute pop
#endif
