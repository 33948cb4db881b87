// The float operations with AVX2, FMA and F16C.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "../float/avx2.h"
#include "../float/operations.h"
#pragma clang attribute pop
#endif
