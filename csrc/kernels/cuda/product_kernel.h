// dL/dx = G W^T for machines without cuBLAS: tiles, split over the outputs where there are few.
#ifndef SPLITOP_KERNELS_CUDA_PRODUCT_KERNEL_H_
#define SPLITOP_KERNELS_CUDA_PRODUCT_KERNEL_H_

#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile.h"

namespace splitop::cuda {

// Writes what lies inside the matrix from the tile in shared memory.
template <typename Product, bool kAligned>
__device__ __forceinline__ void store_tile(Accumulator<typename Product::Element>* to,
                                           int64_t pitch, int64_t rows_left, int64_t cols_left,
                                           const Accumulator<typename Product::Element>* result) {
  using Sum = Accumulator<typename Product::Element>;
  using Tile = typename Product::Tile;
  constexpr int kPack = kAligned ? kPackCount<Sum> : 1;
  constexpr int kRowPacks = Tile::kN / kPack;
#pragma unroll 4
  for (int i = 0; i < Tile::kM * kRowPacks / Tile::kThreads; ++i) {
    const int index = i * Tile::kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kRowPacks;
    const int col = index % kRowPacks * kPack;
    if (row >= rows_left || col >= cols_left) continue;
    *reinterpret_cast<Pack<Sum, kPack>*>(to + row * pitch + col) =
        *reinterpret_cast<const Pack<Sum, kPack>*>(result + row * ResultTile<Product>::kPitch +
                                                   col);
  }
}

template <typename Product, bool kAligned>
__global__ __launch_bounds__(
    Product::Tile::kThreads,
    Product::Tile::kBlocksPerSm) void product_kernel(const ProductArgs args) {
  using T = typename Product::Element;
  using Tile = typename Product::Tile;
  const int64_t tiles_n = (args.inputs + Tile::kN - 1) / Tile::kN;
  const int64_t tiles = tiles_n * ((args.batch + Tile::kM - 1) / Tile::kM);
  const int64_t split = blockIdx.x / tiles;
  const int64_t tile = blockIdx.x % tiles;
  const int64_t row = tile / tiles_n * Tile::kM;
  const int64_t col = tile % tiles_n * Tile::kN;
  const int64_t depth = split * args.split_depth;

  const Operand<T> gradient{static_cast<const T*>(args.gradient) + row * args.outputs, args.outputs,
                            args.batch - row};
  const Operand<T> kernel{static_cast<const T*>(args.kernel) + col * args.outputs, args.outputs,
                          args.inputs - col};
  const auto* const result = multiply_tile<Product, kAligned>(
      gradient, kernel, depth, min(depth + args.split_depth, args.outputs));
  auto* const to =
      static_cast<Accumulator<T>*>(args.result) + (split * args.batch + row) * args.inputs + col;
  store_tile<Product, kAligned>(to, args.inputs, args.batch - row, args.inputs - col, result);
}

template <typename Product, bool kAligned>
splitop_status launch_product(const ProductArgs& args, const Queue& queue) {
  using Tile = typename Product::Tile;
  const int64_t tiles =
      ((args.batch + Tile::kM - 1) / Tile::kM) * ((args.inputs + Tile::kN - 1) / Tile::kN);
  return enqueue(queue, "product_kernel", product_kernel<Product, kAligned>,
                 dim3(static_cast<unsigned>(tiles * args.splits)), dim3(Tile::kThreads),
                 shared_bytes<Product>(), args);
}

// Large: float64 has no large tile, and passes its small one.
template <typename Large, typename Small>
splitop_status enqueue_product(const ProductArgs& args, const Queue& queue) {
  if (!args.aligned) return launch_product<Small, false>(args, queue);
  return args.large_tile ? launch_product<Large, true>(args, queue)
                         : launch_product<Small, true>(args, queue);
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_PRODUCT_KERNEL_H_
