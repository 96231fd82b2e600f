// dL/dW = x^T G a tile at a time, each consumed by the update of the same tile of W.
#ifndef SPLITOP_KERNELS_CUDA_WEIGHT_UPDATE_KERNEL_H_
#define SPLITOP_KERNELS_CUDA_WEIGHT_UPDATE_KERNEL_H_

#include "kernels/cuda/chain_rules.h"
#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile.h"

namespace splitop::cuda {

constexpr int kSectorBytes = 32;  // what the L2 cache fetches at a time

// Starts to bring the first rows of W and its slots into the L2 cache.
template <typename Tile, typename Rule, typename Sum>
__device__ __forceinline__ void prefetch_tile(const splitop_variable& variable, int64_t origin,
                                              int64_t pitch, int64_t rows, int64_t cols_left) {
  constexpr int kSector = kSectorBytes / static_cast<int>(sizeof(Sum));
  constexpr int kRowSectors = Tile::kN / kSector;
  constexpr int kRowsAtOnce = Tile::kThreads / kRowSectors;
  static_assert(Tile::kThreads % kRowSectors == 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int col = thread % kRowSectors * kSector;
  if (col >= cols_left) return;
  for (int64_t row = thread / kRowSectors; row < rows; row += kRowsAtOnce) {
    const int64_t at = origin + row * pitch + col;
    prefetch_l2(static_cast<const Sum*>(variable.value) + at);
#pragma unroll
    for (int slot = 0; slot < Rule::kNumSlots; ++slot) {
      prefetch_l2(static_cast<const Sum*>(variable.slots[slot]) + at);
    }
  }
}

// Reads g from shared memory; W and its slots are read and written once, several packs at a time so
// that enough of the memory's latency is hidden. W may still be in the L2 cache from dL/dx; the
// slots won't be read again in this step.
template <typename Product, bool kAligned, typename Rule, typename Sum>
__device__ __forceinline__ void update_tile(const splitop_variable& variable, const Rule& rule,
                                            int64_t origin, int64_t pitch, int64_t rows_left,
                                            int64_t cols_left, const Sum* result) {
  using Tile = typename Product::Tile;
  constexpr int kPack = kAligned ? kPackCount<Sum> : 1;
  constexpr int kRowPacks = Tile::kN / kPack;
  constexpr int kPerThread = Tile::kM * kRowPacks / Tile::kThreads;
  constexpr int kInFlight = 4;
  static_assert(kPerThread % kInFlight == 0);
  static_assert(Rule::kNumSlots <= 2);
  using Vector = Pack<Sum, kPack>;
  auto* const value = static_cast<Sum*>(variable.value);
  auto* const slot0 = static_cast<Sum*>(variable.slots[0]);
  auto* const slot1 = static_cast<Sum*>(variable.slots[1]);

  struct Place {
    bool inside;
    int64_t variable;
    int result;
  };
  const auto place = [&](int i) -> Place {
    const int index = i * Tile::kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kRowPacks;
    const int col = index % kRowPacks * kPack;
    return {row < rows_left && col < cols_left, origin + row * pitch + col,
            row * ResultTile<Product>::kPitch + col};
  };

  for (int first = 0; first < kPerThread; first += kInFlight) {
    Vector w[kInFlight] = {};
    Vector m[kInFlight] = {};
    Vector v[kInFlight] = {};
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const Place at = place(first + i);
      if (!at.inside) continue;
      w[i] = *reinterpret_cast<const Vector*>(value + at.variable);
      if constexpr (Rule::kNumSlots > 0) {
        m[i] = load_streaming(reinterpret_cast<const Vector*>(slot0 + at.variable));
      }
      if constexpr (Rule::kNumSlots > 1) {
        v[i] = load_streaming(reinterpret_cast<const Vector*>(slot1 + at.variable));
      }
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const Place at = place(first + i);
      if (!at.inside) continue;
      const auto g = *reinterpret_cast<const Vector*>(result + at.result);
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        Sum no_slot;
        rule(g.at[j], g.at[j] * g.at[j], w[i].at[j], m[i].at[j], v[i].at[j], no_slot);
      }
      *reinterpret_cast<Vector*>(value + at.variable) = w[i];
      if constexpr (Rule::kNumSlots > 0) {
        store_streaming(reinterpret_cast<Vector*>(slot0 + at.variable), m[i]);
      }
      if constexpr (Rule::kNumSlots > 1) {
        store_streaming(reinterpret_cast<Vector*>(slot1 + at.variable), v[i]);
      }
    }
  }
}

template <typename Product, bool kAligned, typename Rule>
__global__ __launch_bounds__(
    Product::Tile::kThreads,
    Product::Tile::kBlocksPerSm) void weight_update_kernel(const WeightUpdateArgs args) {
  using T = typename Product::Element;
  using Sum = Accumulator<T>;
  using Tile = typename Product::Tile;
  const int64_t tiles_n = (args.outputs + Tile::kN - 1) / Tile::kN;
  const int64_t row = blockIdx.x / tiles_n * Tile::kM;
  const int64_t col = blockIdx.x % tiles_n * Tile::kN;

  const Operand<T> x{static_cast<const T*>(args.x) + row, args.inputs, args.inputs - row};
  const Operand<T> gradient{static_cast<const T*>(args.gradient) + col, args.outputs,
                            args.outputs - col};
  // The update's data are on their way while the product is computed.
  const int64_t origin = row * args.outputs + col;
  const int64_t prefetched =
      min(min(int64_t{args.prefetch_rows}, int64_t{Tile::kM}), args.inputs - row);
  prefetch_tile<Tile, Rule, Sum>(args.kernel, origin, args.outputs, prefetched, args.outputs - col);
  const auto* const result = multiply_tile<Product, kAligned>(x, gradient, 0, args.batch);
  const Rule rule(static_cast<const Sum*>(args.hyper), args.kernel.decayed != 0);
  update_tile<Product, kAligned>(args.kernel, rule, origin, args.outputs, args.inputs - row,
                                 args.outputs - col, result);
}

template <typename Product, bool kAligned, typename Rule>
splitop_status launch_weight_update(const WeightUpdateArgs& args, const Queue& queue) {
  using Tile = typename Product::Tile;
  const int64_t tiles =
      ((args.inputs + Tile::kM - 1) / Tile::kM) * ((args.outputs + Tile::kN - 1) / Tile::kN);
  return enqueue(queue, "weight_update_kernel", weight_update_kernel<Product, kAligned, Rule>,
                 dim3(static_cast<unsigned>(tiles)), dim3(Tile::kThreads), shared_bytes<Product>(),
                 args);
}

template <typename Large, typename Small, typename Rule>
splitop_status enqueue_weight_update_by(const WeightUpdateArgs& args, const Queue& queue) {
  if (!args.aligned) return launch_weight_update<Small, false, Rule>(args, queue);
  return args.large_tile ? launch_weight_update<Large, true, Rule>(args, queue)
                         : launch_weight_update<Small, true, Rule>(args, queue);
}

// Large: float64 has no large tile, and passes its small one.
template <typename Large, typename Small>
splitop_status enqueue_weight_update(const WeightUpdateArgs& args, const Queue& queue) {
  using Sum = Accumulator<typename Small::Element>;
  return with_chain_rule<Sum>(args.rule, [&](auto tag) {
    return enqueue_weight_update_by<Large, Small, typename decltype(tag)::Rule>(args, queue);
  });
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_WEIGHT_UPDATE_KERNEL_H_
