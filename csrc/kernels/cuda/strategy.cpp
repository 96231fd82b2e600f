#include "kernels/cuda/strategy.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace splitop::cuda {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// ---- the model's constants, fitted to times on an H100 (docs/gpu.md) ----

// Shares of the memory's peak.
constexpr double kBandwidthShare = 0.9;        // reached by a good kernel
constexpr double kAccumulationShare = 0.75;    // by a product of cuBLAS that adds to C,
constexpr double kAccumulationShare16 = 0.65;  // and with factors of 16 bits

// Shares of the arithmetic peak.
struct Shares {
  double float_in_full;
  double tf32;
  double sixteen_bits;
};
constexpr Shares kCublasShares{0.8, 0.6, 0.85};
constexpr Shares kLargeTileShares{0.6, 0.21, 0.25};
constexpr Shares kSmallTileShares{0.6, 0.2, 0.15};
constexpr TileSize kCublasTile{128, 256, 0, 1};  // the usual one
constexpr double kIdleExponent = 0.2;            // cuBLAS splits what leaves most SMs idle

// Of the shorter of arithmetic and memory time, what is not hidden behind the longer one.
constexpr double kOverlapLoss = 0.3;
constexpr double kAccumulationOverlapLoss = 0.8;

constexpr double kTilesSeconds = 2e-6;        // a launch
constexpr double kLargeTileSeconds = 2.4e-6;  // and for W and each slot, what nothing hides
constexpr double kSmallTileSeconds = 1.4e-6;
constexpr double kChunkSeconds = 8e-6;  // two launches and the wait between them
constexpr double kAccumulationSeconds = 5e-6;

constexpr double kChunkShareOfL2 = 0.35;
constexpr int64_t kChunkUnit = 16;  // rows, so that every chunk of x starts aligned

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

double overlapped(double a, double b, double loss = kOverlapLoss) {
  return std::max(a, b) + loss * std::min(a, b);
}

double share_of(const Shares& shares, const Situation& s) {
  if (sixteen_bits(s)) return shares.sixteen_bits;
  return tensor_cores(s) ? shares.tf32 : shares.float_in_full;
}

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

double seconds_of_tiles(const Situation& s, const LayerShape& shape, bool large) {
  const TileSize& tile = large ? kLargeTile : kSmallTile;
  const int64_t tiles = num_tiles(tile, shape.inputs, shape.outputs);
  const auto rounds = static_cast<double>(ceil_div(tiles, s.device.num_sms));
  const double tile_flops = 2.0 * tile.rows * tile.cols * static_cast<double>(shape.batch);
  const double share = share_of(large ? kLargeTileShares : kSmallTileShares, s);
  // Half of the SMs draw all that the memory gives.
  const double busy = std::min(1.0, 2.0 * static_cast<double>(tiles) / s.device.num_sms);
  return kTilesSeconds +
         (large ? kLargeTileSeconds : kSmallTileSeconds) * (1 + splitop_num_slots(s.rule)) +
         overlapped(rounds * tile_flops / (share * sm_flops(s)),
                    bytes_moved(s, shape) / (bandwidth(s) * busy));
}

bool large_tile_wins(const Situation& s, const LayerShape& shape) {
  return large_tile_exists(s, shape) &&
         seconds_of_tiles(s, shape, true) <= seconds_of_tiles(s, shape, false);
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

// Of a product of `rows` rows.
double cublas_flops(const Situation& s, const LayerShape& shape, int64_t rows) {
  return share_of(kCublasShares, s) * device_flops(s) *
         std::pow(busy_share(s, shape, rows), kIdleExponent);
}

// The chunk is in the cache, which still costs as much time as if it were not.
double seconds_of_chunks(const Situation& s, const LayerShape& shape) {
  const int64_t rows = rows_of_chunk(s, shape);
  if (!fits_cublas(s, shape) || rows < 1) return kNever;
  const auto chunks = static_cast<double>(ceil_div(shape.inputs, rows));
  const double gradient =
      2 * static_cast<double>(splitop_dtype_bytes(s.variable_dtype)) * parameters(shape);
  return chunks * kChunkSeconds + product_flops(shape) / cublas_flops(s, shape, rows) +
         (bytes_moved(s, shape) + gradient) / bandwidth(s);
}

double seconds_of_accumulation(const Situation& s, const LayerShape& shape) {
  if (!fits_cublas(s, shape) || s.rule != SPLITOP_SGD) return kNever;
  const double share = sixteen_bits(s) ? kAccumulationShare16 : kAccumulationShare;
  return kAccumulationSeconds +
         overlapped(
             product_flops(shape) / cublas_flops(s, shape, shape.inputs),
             bytes_moved(s, shape) / (share * static_cast<double>(s.device.memory_bandwidth)),
             kAccumulationOverlapLoss);
}

}  // namespace

double expected_seconds(const Situation& situation, const LayerShape& shape,
                        splitop_cuda_strategy strategy) {
  switch (strategy) {
    case SPLITOP_CUDA_TILES:
      return seconds_of_tiles(situation, shape, large_tile_wins(situation, shape));
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
