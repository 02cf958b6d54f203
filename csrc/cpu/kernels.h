// All of one instruction set's code, in reading order. Included inside that set's namespace, after its target was set;
// the includer defines NCAFAST_NAME, NCAFAST_WIDTH and NCAFAST_REGISTERS, and NCAFAST_BF16 where the MLP's products are
// to take bfloat16.
#include "simd.h"
//
#include "gemm.h"
//
#include "mlp_product.h"
//
#include "functions.h"
//
#include "activation.h"
//
#include "layer_norm.h"
//
#include "perceive.h"
//
#include "spread.h"
//
#include "clamp_kernel.h"
//
#include "draws.h"
//
#include "peak.h"
//
#include "tile.h"
