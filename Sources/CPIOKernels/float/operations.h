// Every float operation. The vector to do it with is included before.
#include "attention_body.h"
#include "gradients_body.h"
#include "product_body.h"
#include "quantize_body.h"
#include "rows_body.h"
#include "select_body.h"
#include "transposed_body.h"
