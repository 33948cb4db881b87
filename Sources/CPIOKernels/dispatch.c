#include "CPIOKernels.h"
