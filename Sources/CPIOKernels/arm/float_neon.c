// The float operations with NEON, which every aarch64 has.
#include "../float/names.h"

#if defined(__aarch64__)
#include "../float/neon.h"
#include "../float/operations.h"
#endif
