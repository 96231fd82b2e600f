// Tiles of matrices: their sizes, and how they come into shared memory.
#ifndef SPLITOP_KERNELS_CUDA_TILE_H_
#define SPLITOP_KERNELS_CUDA_TILE_H_

#include <stdint.h>

#include "kernels/cuda/element.h"
#include "kernels/cuda/primitives.h"
#include "kernels/cuda/strategy.h"

namespace splitop::cuda {

// The part of a product that one block of threads works on.
template <int kM_, int kN_, int kThreads_, int kBlocksPerSm_>
struct TileShape {
  static constexpr int kM = kM_;
  static constexpr int kN = kN_;
  static constexpr int kThreads = kThreads_;
  static constexpr int kBlocksPerSm = kBlocksPerSm_;  // that registers must leave room for
};
using LargeTile =
    TileShape<kLargeTile.rows, kLargeTile.cols, kLargeTile.threads, kLargeTile.blocks_per_sm>;
using SmallTile =
    TileShape<kSmallTile.rows, kSmallTile.cols, kSmallTile.threads, kSmallTile.blocks_per_sm>;

// How the two factors of a product lie in memory. "Depth" is the dimension that is summed over.
enum class Layout {
  kDepthOuter,  // [depth, extent]: x and G in x^T G
  kDepthInner   // [extent, depth]: G and W in G W^T
};

// One factor, from the tile's first row (or column) on.
template <typename T>
struct Operand {
  const T* origin;
  int64_t pitch;   // elements from one row of memory to the next
  int64_t extent;  // what is left of the extent; what lies beyond counts as zero
};

// Copies rows x cols elements into shared memory, zeros where the matrix has ended. kAligned:
// origin and pitch are multiples of 16 bytes, and so is `cols_left`; the copy is asynchronous.
template <int kRows, int kCols, int kPitch, int kThreads, bool kAligned, typename T>
__device__ __forceinline__ void load_tile(T* shared, const T* global, int64_t pitch,
                                          int64_t rows_left, int64_t cols_left) {
  constexpr int kPack = kAligned ? kPackCount<T> : 1;
  constexpr int kRowPacks = kCols / kPack;
  constexpr int kCount = kRows * kRowPacks / kThreads;
  static_assert(kRows * kRowPacks % kThreads == 0, "every thread copies as much");
  [[maybe_unused]] constexpr int kUnroll = kAligned ? kCount : 4;  // plain loads wait in registers
#pragma unroll kUnroll
  for (int i = 0; i < kCount; ++i) {
    const int index = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kRowPacks;
    const int col = index % kRowPacks * kPack;
    const bool valid = row < rows_left && col < cols_left;
    T* const to = shared + row * kPitch + col;
    if constexpr (kAligned) {
      static_assert(kPackBytes == 16, "what copy_async copies");
      copy_async(to, valid ? global + row * pitch + col : global, valid);
    } else {
      *to = valid ? global[row * pitch + col] : T{};
    }
  }
}

// Both factors' slices of one depth step, in one stage of the shared memory.
template <typename Product, bool kAligned>
struct Slices {
  using T = typename Product::Element;
  using Tile = typename Product::Tile;
  static constexpr bool kOuter = Product::kLayout == Layout::kDepthOuter;
  static constexpr int kElementsA = (kOuter ? Product::kDepth : Tile::kM) * Product::kPitchA;
  static constexpr int kElements =
      kElementsA + (kOuter ? Product::kDepth : Tile::kN) * Product::kPitchB;
  static_assert(kElementsA * sizeof(T) % 16 == 0 && kElements * sizeof(T) % 16 == 0);

  static __device__ __forceinline__ void load(T* stage, const Operand<T>& a, const Operand<T>& b,
                                              int64_t depth, int64_t depth_left) {
    load_factor<Tile::kM, Product::kPitchA>(stage, a, depth, depth_left);
    load_factor<Tile::kN, Product::kPitchB>(stage + kElementsA, b, depth, depth_left);
  }

 private:
  template <int kExtent, int kPitch>
  static __device__ __forceinline__ void load_factor(T* shared, const Operand<T>& factor,
                                                     int64_t depth, int64_t depth_left) {
    if constexpr (kOuter) {
      load_tile<Product::kDepth, kExtent, kPitch, Tile::kThreads, kAligned>(
          shared, factor.origin + depth * factor.pitch, factor.pitch, depth_left, factor.extent);
    } else {
      load_tile<kExtent, Product::kDepth, kPitch, Tile::kThreads, kAligned>(
          shared, factor.origin + depth, factor.pitch, factor.extent, depth_left);
    }
  }
};

// The result of a tile in shared memory, where every thread can read it row by row. It takes the
// place of the slices.
template <typename Product>
struct ResultTile {
  using Sum = Accumulator<typename Product::Element>;
  // The padding keeps the stores of a tensor core's fragment in different banks.
  static constexpr int kPitch = Product::Tile::kN + 32 / static_cast<int>(sizeof(Sum));
  static constexpr int kBytes = Product::Tile::kM * kPitch * static_cast<int>(sizeof(Sum));
  static_assert(kPitch * sizeof(Sum) % kPackBytes == 0, "rows can be read and written in packs");
};

constexpr int kStages = 4;  // slices in flight

template <typename Product>
constexpr int shared_bytes() {
  constexpr int kSlices = kStages * Slices<Product, true>::kElements *
                          static_cast<int>(sizeof(typename Product::Element));
  return kSlices > ResultTile<Product>::kBytes ? kSlices : ResultTile<Product>::kBytes;
}

// Sums a tile of the product over [depth_begin, depth_end) and leaves it in shared memory as a
// ResultTile, complete for all threads. depth_begin: a multiple of Product::kDepth.
template <typename Product, bool kAligned>
__device__ __forceinline__ const Accumulator<typename Product::Element>* multiply_tile(
    const Operand<typename Product::Element>& a, const Operand<typename Product::Element>& b,
    int64_t depth_begin, int64_t depth_end) {
  using T = typename Product::Element;
  using Stage = Slices<Product, kAligned>;
  T* const stages = reinterpret_cast<T*>(shared_memory());
  const auto steps =
      static_cast<int>((depth_end - depth_begin + Product::kDepth - 1) / Product::kDepth);
  const auto load = [&](int step) {
    if (step < steps) {
      const int64_t depth = depth_begin + int64_t{step} * Product::kDepth;
      Stage::load(stages + step % kStages * Stage::kElements, a, b, depth, depth_end - depth);
    }
    copy_async_commit();  // empty groups too, so that a group is a step
  };

  Product product;
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) load(step);
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // this step's slices are there, and the stage before is free again
    load(step + kStages - 1);
    const T* const stage = stages + step % kStages * Stage::kElements;
    product.add(stage, stage + Stage::kElementsA);
  }
  copy_async_wait<0>();
  __syncthreads();  // nobody reads the slices any more

  auto* const result = reinterpret_cast<Accumulator<T>*>(shared_memory());
  product.store(result, ResultTile<Product>::kPitch);
  __syncthreads();
  return result;
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_TILE_H_
