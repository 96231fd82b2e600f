// What the CUDA dispatch decides for a layer. Needs no device: for benchmarks and tests.
#ifndef SPLITOP_CUDA_PLAN_H_
#define SPLITOP_CUDA_PLAN_H_

#include <stdint.h>

#include "splitop/cuda.h"
#include "splitop/dtype.h"
#include "splitop/export.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_cuda_layer {
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
  splitop_dtype dtype;           // of x and G
  splitop_dtype variable_dtype;  // of the kernel
  splitop_update_rule rule;
} splitop_cuda_layer;

typedef struct splitop_cuda_layer_plan {
  splitop_cuda_strategy strategy;  // for x^T G and the update; never AUTO
  int32_t large_tile;              // TILES: 128 x 128, else 64 x 64
  int64_t chunk_rows;              // CHUNKS: rows of the kernel in a chunk, fewer than it has
  // What each strategy is expected to take, launches included; infinity where it can't be had.
  // [SPLITOP_CUDA_AUTO]: that of the strategy above.
  double expected_seconds[SPLITOP_NUM_CUDA_STRATEGIES];
  // dL/dx = G W^T
  int32_t product_by_cublas;
  int32_t product_splits;  // sums over parts of the outputs, added up afterwards
} splitop_cuda_layer_plan;

// options->use_cublas: as if cuBLAS were there. SPLITOP_UNSUPPORTED if the strategy asked for can't
// be had.
SPLITOP_API splitop_status splitop_cuda_plan_layer(const splitop_cuda_device* device,
                                                   const splitop_cuda_layer* layer,
                                                   const splitop_cuda_options* options,
                                                   splitop_cuda_layer_plan* plan);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_CUDA_PLAN_H_
