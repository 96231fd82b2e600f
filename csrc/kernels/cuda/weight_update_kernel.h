// dL/dW = x^T G a tile at a time, each consumed by the update of the same tile of W.
#ifndef SPLITOP_KERNELS_CUDA_WEIGHT_UPDATE_KERNEL_H_
#define SPLITOP_KERNELS_CUDA_WEIGHT_UPDATE_KERNEL_H_

#include "kernels/cuda/chain_rules.h"
#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile.h"

namespace splitop::cuda {

// Packs of W and its slots on their way from memory through the update and back, several at a time
// so that enough of the memory's latency is hidden.
template <typename Product, bool kAligned, typename Rule>
class UpdatePacks {
 public:
  using Sum = Accumulator<typename Product::Element>;
  using Tile = typename Product::Tile;
  static constexpr int kPack = kAligned ? kPackCount<Sum> : 1;
  static constexpr int kRowPacks = Tile::kN / kPack;
  static constexpr int kPerThread = Tile::kM * kRowPacks / Tile::kThreads;
  static constexpr int kInFlight = Rule::kNumSlots > 0 ? 4 : 8;
  static_assert(kPerThread % kInFlight == 0);
  static_assert(Rule::kNumSlots <= 2);

  // row, col: where the tile begins. What lies beyond the kernel is left alone.
  __device__ __forceinline__ UpdatePacks(const WeightUpdateLayer& layer, int64_t row, int64_t col)
      : value_(static_cast<Sum*>(layer.kernel.value)),
        slot0_(static_cast<Sum*>(layer.kernel.slots[0])),
        slot1_(static_cast<Sum*>(layer.kernel.slots[1])),
        origin_(row * layer.outputs + col),
        pitch_(layer.outputs),
        rows_left_(static_cast<int>(min(layer.inputs - row, int64_t{Tile::kM}))),
        cols_left_(static_cast<int>(min(layer.outputs - col, int64_t{Tile::kN}))) {}

  // This thread's packs [first, first + kInFlight) of the tile.
  __device__ __forceinline__ void load(int first) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (!inside(first + i)) continue;
      const int64_t at = offset(first + i);
      w_[i] = *reinterpret_cast<const Vector*>(value_ + at);
      if constexpr (Rule::kNumSlots > 0) m_[i] = *reinterpret_cast<const Vector*>(slot0_ + at);
      if constexpr (Rule::kNumSlots > 1) v_[i] = *reinterpret_cast<const Vector*>(slot1_ + at);
    }
  }

  // Updates what the last load has brought. result: a ResultTile, the tile of the gradient.
  __device__ __forceinline__ void update(int first, const Rule& rule, const Sum* result) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (!inside(first + i)) continue;
      const auto g = *reinterpret_cast<const Vector*>(
          result + row(first + i) * ResultTile<Product>::kPitch + col(first + i));
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        Sum no_slot;
        rule(g.at[j], g.at[j] * g.at[j], w_[i].at[j], m_[i].at[j], v_[i].at[j], no_slot);
      }
      const int64_t at = offset(first + i);
      *reinterpret_cast<Vector*>(value_ + at) = w_[i];
      if constexpr (Rule::kNumSlots > 0) *reinterpret_cast<Vector*>(slot0_ + at) = m_[i];
      if constexpr (Rule::kNumSlots > 1) *reinterpret_cast<Vector*>(slot1_ + at) = v_[i];
    }
  }

 private:
  using Vector = Pack<Sum, kPack>;

  static __device__ __forceinline__ int index(int i) {
    return i * Tile::kThreads + static_cast<int>(threadIdx.x);
  }
  static __device__ __forceinline__ int row(int i) { return index(i) / kRowPacks; }
  static __device__ __forceinline__ int col(int i) { return index(i) % kRowPacks * kPack; }
  __device__ __forceinline__ int64_t offset(int i) const {
    return origin_ + row(i) * pitch_ + col(i);
  }
  __device__ __forceinline__ bool inside(int i) const {
    return row(i) < rows_left_ && col(i) < cols_left_;
  }

  Sum* const value_;
  Sum* const slot0_;
  Sum* const slot1_;
  const int64_t origin_;
  const int64_t pitch_;
  const int rows_left_;
  const int cols_left_;
  Vector w_[kInFlight] = {};
  Vector m_[kInFlight] = {};
  Vector v_[kInFlight] = {};
};

// Whether packs of W are loaded before the product is computed. That hides the start of short
// products with rules that read nothing but W; with slots it is slower, as are larger tiles, whose
// threads have no registers to spare.
template <typename Product, typename Rule>
constexpr bool kLoadsAhead = Rule::kNumSlots == 0 && Product::kOnTensorCores &&
                             Product::Tile::kM * Product::Tile::kN <= 32 * Product::Tile::kThreads;

template <typename Tile>
__host__ __device__ __forceinline__ int64_t tiles_of(const WeightUpdateLayer& layer) {
  return (layer.inputs + Tile::kM - 1) / Tile::kM * ((layer.outputs + Tile::kN - 1) / Tile::kN);
}

// A block's layer, and where its tile begins.
struct TilePlace {
  const WeightUpdateLayer& layer;
  int64_t row;
  int64_t col;
};
template <typename Tile>
__device__ __forceinline__ TilePlace place_of(const WeightUpdateArgs& args, unsigned block) {
  int64_t tile = block;
  int l = 0;
  for (; tile >= tiles_of<Tile>(args.layers[l]); ++l) tile -= tiles_of<Tile>(args.layers[l]);
  const WeightUpdateLayer& layer = args.layers[l];
  const int64_t tiles_n = (layer.outputs + Tile::kN - 1) / Tile::kN;
  return {layer, tile / tiles_n * Tile::kM, tile % tiles_n * Tile::kN};
}

template <typename Product, bool kAligned>
__device__ __forceinline__ const Accumulator<typename Product::Element>* multiply_at(
    const TilePlace& place, int64_t batch) {
  using T = typename Product::Element;
  const auto& [layer, row, col] = place;
  const Operand<T> x{static_cast<const T*>(layer.x) + row, layer.inputs, layer.inputs - row};
  const Operand<T> gradient{static_cast<const T*>(layer.gradient) + col, layer.outputs,
                            layer.outputs - col};
  return multiply_tile<Product, kAligned>(x, gradient, 0, batch);
}

template <typename Product, bool kAligned, typename Rule>
__global__
__launch_bounds__(Product::Tile::kThreads, Product::Tile::kBlocksPerSm) void weight_update_kernel(
    const __grid_constant__ WeightUpdateArgs args) {
  using Sum = Accumulator<typename Product::Element>;
  using Tile = typename Product::Tile;
  using Packs = UpdatePacks<Product, kAligned, Rule>;
  const auto update = [&](Packs& packs, const TilePlace& place, const Sum* result, bool loaded) {
    const Rule rule(static_cast<const Sum*>(args.hyper), place.layer.kernel.decayed != 0);
    for (int first = 0; first < Packs::kPerThread; first += Packs::kInFlight) {
      if (first > 0 || !loaded) packs.load(first);
      packs.update(first, rule, result);
    }
  };
  const TilePlace place = place_of<Tile>(args, blockIdx.x);
  if constexpr (kLoadsAhead<Product, Rule>) {
    Packs packs(place.layer, place.row, place.col);
    packs.load(0);
    update(packs, place, multiply_at<Product, kAligned>(place, args.batch), true);
  } else {
    const Sum* const result = multiply_at<Product, kAligned>(place, args.batch);
    // The place is worked out again, as the product has no register to keep it in.
    const TilePlace again = place_of<Tile>(args, block_index());
    Packs packs(again.layer, again.row, again.col);
    update(packs, again, result, false);
  }
}

template <typename Product, bool kAligned, typename Rule>
splitop_status launch_weight_update(const WeightUpdateArgs& args, const Queue& queue) {
  using Tile = typename Product::Tile;
  int64_t tiles = 0;
  for (int l = 0; l < args.num_layers; ++l) tiles += tiles_of<Tile>(args.layers[l]);
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
