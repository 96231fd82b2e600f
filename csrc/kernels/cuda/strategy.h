// How the work on a layer is cut up for a device. Host arithmetic only: no CUDA in here.
#ifndef SPLITOP_KERNELS_CUDA_STRATEGY_H_
#define SPLITOP_KERNELS_CUDA_STRATEGY_H_

#include <stdint.h>

#include "splitop/cuda.h"
#include "splitop/dtype.h"
#include "splitop/update_rule.h"

namespace splitop::cuda {

struct TileSize {
  int rows;
  int cols;
  int threads;
  int blocks_per_sm;
};
constexpr TileSize kLargeTile{128, 128, 256, 2};
constexpr TileSize kSmallTile{64, 64, 128, 4};  // for layers and batches that are small

// Accesses of this many bytes are possible where every row starts at a multiple of it.
constexpr int64_t kPackBytes = 16;
inline bool aligned_rows(int64_t cols, splitop_dtype dtype) {
  return cols * static_cast<int64_t>(splitop_dtype_bytes(dtype)) % kPackBytes == 0;
}

// What a chain's layers have in common.
struct Situation {
  splitop_cuda_device device;
  splitop_dtype dtype;           // of the factors
  splitop_dtype variable_dtype;  // of the variables
  splitop_update_rule rule;
  bool tf32;    // float32 factors may be rounded to TF32
  bool cublas;  // may be used, and is there
};

struct LayerShape {
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
};

// x^T G and the update of the kernel.
struct WeightUpdatePlan {
  splitop_cuda_strategy strategy;  // never AUTO
  bool large_tile;                 // TILES
  int64_t chunk_rows;              // CHUNKS: rows of the kernel in a chunk, fewer than it has
};

// False if `wanted` can't be had for this layer.
bool plan_weight_update(const Situation& situation, const LayerShape& shape,
                        splitop_cuda_strategy wanted, WeightUpdatePlan* plan);

// Seconds that a strategy is expected to take; infinity where it can't be had.
double expected_seconds(const Situation& situation, const LayerShape& shape,
                        splitop_cuda_strategy strategy);

// dL/dx = G W^T.
struct ProductPlan {
  bool cublas;
  bool large_tile;
  int splits;           // of the sum over the outputs, each into a result of its own
  int64_t split_depth;  // outputs in a split
};
ProductPlan plan_product(const Situation& situation, const LayerShape& shape);

// The activation's gradient and its sums over the batch.
struct GradientPlan {
  int row_blocks;  // parts of the batch, each with sums of its own
  int64_t rows_per_block;
};
GradientPlan plan_gradient(const Situation& situation, int64_t batch, int64_t cols);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_STRATEGY_H_
