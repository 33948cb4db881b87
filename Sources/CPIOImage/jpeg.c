#include "CPIOImage.h"
