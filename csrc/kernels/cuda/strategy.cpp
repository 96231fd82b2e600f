#include "kernels/cuda/strategy.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace splitop::cuda {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// ---- the model's constants: guesses from data sheets until docs/gpu.md has measured ones ----

constexpr double kBandwidthShare = 0.9;     // of the memory's peak that a good kernel reaches
constexpr double kCublasShare = 0.8;        // of the arithmetic peak
constexpr double kAccumulationShare = 0.7;  // of the memory's peak, by a product that adds to C
constexpr TileSize kCublasTile{128, 256, 0, 1};  // the usual one
constexpr double kSimtTileShare = 0.7;           // likewise, of our tiles
constexpr double kTensorTileShare = 0.5;  // mma.sync, which Hopper runs at about 0.6 of its peak
constexpr double kOverlapLoss = 0.2;      // of the shorter of arithmetic and memory time
constexpr double kLaunchSeconds = 3e-6;
constexpr double kChunkShareOfL2 = 0.35;
constexpr double kPrefetchShareOfL2 = 0.5;  // the factors of the product need some, too
constexpr int64_t kChunkUnit = 16;          // rows, so that every chunk of x starts aligned

constexpr int kBlocksWanted = 3;       // of the gradient kernel per SM: as many as fit at a time
constexpr int64_t kMaxRowBlocks = 32;  // a few threads add up their sums, one after the other
constexpr int kMaxSplits = 16;
constexpr int64_t kMinSplitSlices = 8;  // depth slices that a split must be worth
constexpr int64_t kSliceBytes = 64;     // depth of a slice
constexpr int64_t kMinRowsPerBlock = 32;
constexpr int64_t kLanes = 32;
constexpr int64_t kMaxCublasExtent = std::numeric_limits<int32_t>::max();

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

bool sixteen_bits(const Situation& s) { return splitop_dtype_bytes(s.dtype) == 2; }
bool tensor_cores(const Situation& s) {
  return sixteen_bits(s) || (s.dtype == SPLITOP_FLOAT32 && s.tf32);
}

// Floating-point operations a cycle and SM.
double peak_rate(const Situation& s) {
  const bool hopper = s.device.compute_capability >= 90;
  if (sixteen_bits(s)) return hopper ? 4096 : 2048;
  if (tensor_cores(s)) return hopper ? 2048 : 1024;
  if (s.dtype == SPLITOP_FLOAT64) return hopper ? 128 : 64;
  return hopper ? 256 : 128;
}

double sm_flops(const Situation& s) {
  return peak_rate(s) * static_cast<double>(s.device.clock_hz);
}
double device_flops(const Situation& s) { return sm_flops(s) * s.device.num_sms; }
double bandwidth(const Situation& s) {
  return kBandwidthShare * static_cast<double>(s.device.memory_bandwidth);
}

double parameters(const LayerShape& shape) {
  return static_cast<double>(shape.inputs) * static_cast<double>(shape.outputs);
}

// Each weight and slot is read once and written once; so are the factors, which are read.
double bytes_moved(const Situation& s, const LayerShape& shape) {
  const auto element = static_cast<double>(splitop_dtype_bytes(s.dtype));
  const auto variable = static_cast<double>(splitop_dtype_bytes(s.variable_dtype));
  const double factors =
      static_cast<double>(shape.batch) * static_cast<double>(shape.inputs + shape.outputs);
  return 2 * variable * (1 + splitop_num_slots(s.rule)) * parameters(shape) + element * factors;
}

double product_flops(const LayerShape& shape) {
  return 2 * static_cast<double>(shape.batch) * parameters(shape);
}

double overlapped(double a, double b) { return std::max(a, b) + kOverlapLoss * std::min(a, b); }

bool fits_cublas(const Situation& s, const LayerShape& shape) {
  return s.cublas && std::max({shape.batch, shape.inputs, shape.outputs}) <= kMaxCublasExtent;
}

// float64 and what is not aligned have small tiles only.
bool large_tile_exists(const Situation& s, const LayerShape& shape) {
  return s.dtype != SPLITOP_FLOAT64 && aligned_rows(shape.inputs, s.dtype) &&
         aligned_rows(shape.outputs, s.dtype);
}

int64_t num_tiles(const TileSize& tile, int64_t rows, int64_t cols) {
  return ceil_div(rows, tile.rows) * ceil_div(cols, tile.cols);
}

double seconds_of_tiles(const Situation& s, const LayerShape& shape, const TileSize& tile) {
  const int64_t tiles = num_tiles(tile, shape.inputs, shape.outputs);
  const double share = tensor_cores(s) ? kTensorTileShare : kSimtTileShare;
  const auto rounds = static_cast<double>(ceil_div(tiles, s.device.num_sms));
  const double tile_flops = 2.0 * tile.rows * tile.cols * static_cast<double>(shape.batch);
  const double busy = std::min(1.0, static_cast<double>(tiles) / s.device.num_sms);
  return kLaunchSeconds + overlapped(rounds * tile_flops / (share * sm_flops(s)),
                                     bytes_moved(s, shape) / (bandwidth(s) * busy));
}

bool large_tile_wins(const Situation& s, const LayerShape& shape) {
  return large_tile_exists(s, shape) &&
         seconds_of_tiles(s, shape, kLargeTile) <= seconds_of_tiles(s, shape, kSmallTile);
}

// Of every tile that is at work at a time the L2 cache is to hold as many rows of W and its slots.
int rows_to_prefetch(const Situation& s, const LayerShape& shape, const TileSize& tile) {
  const int64_t tiles = std::min(num_tiles(tile, shape.inputs, shape.outputs),
                                 int64_t{s.device.num_sms} * tile.blocks_per_sm);
  const auto row_bytes = static_cast<int64_t>(splitop_dtype_bytes(s.variable_dtype)) *
                         (1 + splitop_num_slots(s.rule)) * tile.cols;
  const double room = kPrefetchShareOfL2 * static_cast<double>(s.device.l2_bytes);
  const double rows = room / static_cast<double>(tiles * row_bytes);
  return static_cast<int>(std::min<double>(tile.rows, rows));
}

// Share of the SMs that a product of `rows` rows keeps busy, in whole rounds of cuBLAS' tiles.
double busy_share(const Situation& s, const LayerShape& shape, int64_t rows) {
  const int64_t tiles = num_tiles(kCublasTile, rows, shape.outputs);
  const int64_t rounds = ceil_div(tiles, s.device.num_sms);
  return static_cast<double>(tiles) / static_cast<double>(rounds * s.device.num_sms);
}

// The number of rows up to `most` that leaves the fewest SMs idle, the larger where two are equal.
int64_t busiest_rows(const Situation& s, const LayerShape& shape, int64_t most) {
  int64_t best = kCublasTile.rows;
  for (int64_t rows = best; rows <= most; rows += kCublasTile.rows) {
    if (busy_share(s, shape, rows) >= busy_share(s, shape, best)) best = rows;
  }
  return best;
}

// Never all rows: the whole gradient must not exist. 0 where that can't be.
int64_t rows_of_chunk(const Situation& s, const LayerShape& shape) {
  const auto row_bytes = static_cast<double>(shape.outputs) *
                         static_cast<double>(splitop_dtype_bytes(s.variable_dtype));
  const double budget = kChunkShareOfL2 * static_cast<double>(s.device.l2_bytes);
  const int64_t most =
      std::min(std::max<int64_t>(1, static_cast<int64_t>(budget / row_bytes)), shape.inputs / 2);
  if (most >= kCublasTile.rows) return busiest_rows(s, shape, most);
  return most >= kChunkUnit ? most - most % kChunkUnit : most;
}

double seconds_of_chunks(const Situation& s, const LayerShape& shape) {
  const int64_t rows = rows_of_chunk(s, shape);
  if (!fits_cublas(s, shape) || rows < 1) return kNever;
  const auto chunks = static_cast<double>(ceil_div(shape.inputs, rows));
  const double flops = product_flops(shape) / busy_share(s, shape, rows);
  return 2 * chunks * kLaunchSeconds + flops / (kCublasShare * device_flops(s)) +
         bytes_moved(s, shape) / bandwidth(s);
}

double seconds_of_accumulation(const Situation& s, const LayerShape& shape) {
  if (!fits_cublas(s, shape) || s.rule != SPLITOP_SGD) return kNever;
  const double share = kAccumulationShare / kBandwidthShare;
  return kLaunchSeconds + overlapped(product_flops(shape) / (kCublasShare * device_flops(s)),
                                     bytes_moved(s, shape) / (share * bandwidth(s)));
}

}  // namespace

double expected_seconds(const Situation& situation, const LayerShape& shape,
                        splitop_cuda_strategy strategy) {
  switch (strategy) {
    case SPLITOP_CUDA_TILES:
      return seconds_of_tiles(situation, shape,
                              large_tile_wins(situation, shape) ? kLargeTile : kSmallTile);
    case SPLITOP_CUDA_CHUNKS:
      return seconds_of_chunks(situation, shape);
    case SPLITOP_CUDA_ACCUMULATE:
      return seconds_of_accumulation(situation, shape);
    default:
      return kNever;
  }
}

bool plan_weight_update(const Situation& situation, const LayerShape& shape,
                        splitop_cuda_strategy wanted, WeightUpdatePlan* plan) {
  const auto seconds = [&](splitop_cuda_strategy strategy) {
    return expected_seconds(situation, shape, strategy);
  };
  splitop_cuda_strategy strategy = wanted;
  if (wanted == SPLITOP_CUDA_AUTO) {
    strategy = SPLITOP_CUDA_TILES;
    for (const auto other : {SPLITOP_CUDA_CHUNKS, SPLITOP_CUDA_ACCUMULATE}) {
      if (seconds(other) < seconds(strategy)) strategy = other;
    }
  }
  if (std::isinf(seconds(strategy))) return false;
  plan->strategy = strategy;
  plan->large_tile = large_tile_wins(situation, shape);
  plan->prefetch_rows =
      rows_to_prefetch(situation, shape, plan->large_tile ? kLargeTile : kSmallTile);
  plan->chunk_rows = rows_of_chunk(situation, shape);
  return true;
}

ProductPlan plan_product(const Situation& situation, const LayerShape& shape) {
  ProductPlan plan = {};
  plan.splits = 1;
  plan.split_depth = shape.outputs;
  plan.cublas = fits_cublas(situation, shape);
  if (plan.cublas) return plan;
  plan.large_tile = large_tile_exists(situation, shape) && shape.batch > kSmallTile.rows;
  const TileSize& tile = plan.large_tile ? kLargeTile : kSmallTile;
  const int64_t tiles = num_tiles(tile, shape.batch, shape.inputs);
  const int64_t slice = kSliceBytes / static_cast<int64_t>(splitop_dtype_bytes(situation.dtype));
  const int64_t wanted = int64_t{situation.device.num_sms} * tile.blocks_per_sm / tiles;
  const int64_t most = std::min<int64_t>(kMaxSplits, shape.outputs / (kMinSplitSlices * slice));
  const int64_t splits = std::max<int64_t>(1, std::min(wanted, most));
  plan.split_depth = round_up(ceil_div(shape.outputs, splits), slice);
  plan.splits = static_cast<int>(ceil_div(shape.outputs, plan.split_depth));
  return plan;
}

GradientPlan plan_gradient(const Situation& situation, int64_t batch, int64_t cols) {
  const int64_t pack = aligned_rows(cols, situation.dtype)
                           ? kPackBytes / static_cast<int64_t>(splitop_dtype_bytes(situation.dtype))
                           : 1;
  const int64_t strips = ceil_div(cols, kLanes * pack);
  const int64_t wanted = int64_t{kBlocksWanted} * situation.device.num_sms / strips;
  const int64_t blocks =
      std::max<int64_t>(1, std::min({wanted, kMaxRowBlocks, ceil_div(batch, kMinRowsPerBlock)}));
  GradientPlan plan;
  plan.rows_per_block = ceil_div(batch, blocks);
  plan.row_blocks = static_cast<int>(ceil_div(batch, plan.rows_per_block));
  return plan;
}

}  // namespace splitop::cuda
