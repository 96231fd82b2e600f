// The activation's gradient, and the column sums that are the bias's gradient.
#ifndef SPLITOP_KERNELS_CUDA_GRADIENT_KERNEL_H_
#define SPLITOP_KERNELS_CUDA_GRADIENT_KERNEL_H_

#include <algorithm>
#include <type_traits>

#include "kernels/activation_gradients.h"
#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/primitives.h"

namespace splitop::cuda {

constexpr int kGradientWarps = 8;
constexpr int kGradientLanes = 32;

// Rows that a warp has under way at a time: as many as there are registers for.
template <int kPack>
constexpr int kGradientRows = kPack > 4 ? 2 : 4;

// The packs at `first`, `first + stride`, ... of as many rows as there are.
template <typename T, int kPack>
__device__ __forceinline__ void load_rows(Pack<T, kPack> (&packs)[kGradientRows<kPack>],
                                          const T* first, int64_t stride, int64_t rows) {
#pragma unroll
  for (int row = 0; row < kGradientRows<kPack>; ++row) {
    if (row < rows) packs[row] = *reinterpret_cast<const Pack<T, kPack>*>(first + row * stride);
  }
}

// Adds as many rows of all splits to g.
template <typename Source, typename Sum, int kPack>
__device__ __forceinline__ void add_splits(Sum (&g)[kGradientRows<kPack>][kPack],
                                           const Source* first, int splits, int64_t split_stride,
                                           int64_t stride, int64_t rows) {
  for (int split = 0; split < splits; ++split) {
    Pack<Source, kPack> packs[kGradientRows<kPack>] = {};
    load_rows(packs, first + split * split_stride, stride, rows);
#pragma unroll
    for (int row = 0; row < kGradientRows<kPack>; ++row) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) g[row][i] += widen(packs[row].at[i]);
    }
  }
}

// g becomes activation'(r) * g
template <typename T, typename Sum, int kPack>
__device__ __forceinline__ void apply_activation(splitop_activation activation,
                                                 Sum (&g)[kGradientRows<kPack>][kPack],
                                                 const Pack<T, kPack> (&r)[kGradientRows<kPack>],
                                                 Sum alpha) {
  with_activation(activation, [&](auto tag) {
#pragma unroll
    for (int row = 0; row < kGradientRows<kPack>; ++row) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        g[row][i] =
            activation_gradient<decltype(tag)::kActivation>(g[row][i], widen(r[row].at[i]), alpha);
      }
    }
  });
}

template <typename Sum, int kPack>
__device__ __forceinline__ void add_rows(Sum (&sums)[kPack],
                                         const Sum (&g)[kGradientRows<kPack>][kPack],
                                         int64_t rows) {
#pragma unroll
  for (int row = 0; row < kGradientRows<kPack>; ++row) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) sums[i] += row < rows ? g[row][i] : Sum(0);
  }
}

template <typename T, typename Sum, int kPack>
__device__ __forceinline__ void store_rows(T* first, const Sum (&g)[kGradientRows<kPack>][kPack],
                                           int64_t stride, int64_t rows) {
#pragma unroll
  for (int row = 0; row < kGradientRows<kPack>; ++row) {
    Pack<T, kPack> pack;
#pragma unroll
    for (int i = 0; i < kPack; ++i) pack.at[i] = narrow<T>(g[row][i]);
    if (row < rows) store_whole(reinterpret_cast<Pack<T, kPack>*>(first + row * stride), pack);
  }
}

// The warps' sums of a block become one, in the warps' order, in the first warp.
template <typename Sum, int kPack>
__device__ __forceinline__ void add_up_warps(Sum (&sums)[kPack]) {
  auto* const shared = reinterpret_cast<Sum*>(shared_memory());
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    shared[(threadIdx.y * kPack + i) * kGradientLanes + threadIdx.x] = sums[i];
  }
  __syncthreads();
  if (threadIdx.y != 0) return;
  for (int warp = 1; warp < kGradientWarps; ++warp) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sums[i] += shared[(warp * kPack + i) * kGradientLanes + threadIdx.x];
    }
  }
}

// A block has a strip of kGradientLanes packs of columns, and rows_per_block rows.
template <typename T, typename Source, int kPack>
__global__ __launch_bounds__(kGradientWarps* kGradientLanes) void gradient_kernel(
    const GradientArgs args) {
  using Sum = Accumulator<T>;
  const int64_t col = (int64_t{blockIdx.x} * kGradientLanes + threadIdx.x) * kPack;
  const int64_t first = int64_t{blockIdx.y} * args.rows_per_block;
  const int64_t end = min(first + args.rows_per_block, args.batch);
  const auto* const source = static_cast<const Source*>(args.source);
  const auto* const reference = static_cast<const T*>(args.reference);
  auto* const gradient = static_cast<T*>(args.gradient);
  const bool inside = col < args.cols;

  const int64_t stride = kGradientWarps * args.cols;
  Sum sums[kPack] = {};
  for (int64_t row = first + threadIdx.y; inside && row < end;
       row += kGradientWarps * kGradientRows<kPack>) {
    const int64_t rows = (end - row + kGradientWarps - 1) / kGradientWarps;  // that are left
    const int64_t offset = row * args.cols + col;
    // All loads come before what needs any of them.
    Pack<T, kPack> r[kGradientRows<kPack>] = {};
    if (args.activation != SPLITOP_LINEAR) load_rows(r, reference + offset, stride, rows);
    Sum g[kGradientRows<kPack>][kPack] = {};
    add_splits(g, source + offset, args.splits, args.batch * args.cols, stride, rows);
    if (args.activation != SPLITOP_LINEAR) {
      apply_activation(args.activation, g, r, static_cast<Sum>(args.alpha));
    }
    add_rows(sums, g, rows);
    if (gradient != nullptr) store_rows(gradient + offset, g, stride, rows);
  }
  if (args.sums == nullptr) return;
  add_up_warps(sums);
  if (threadIdx.y == 0 && inside) {
    auto* const to = static_cast<Sum*>(args.sums) + int64_t{blockIdx.y} * args.cols + col;
#pragma unroll
    for (int i = 0; i < kPack; ++i) to[i] = sums[i];
  }
}

template <typename T, typename Source, int kPack>
splitop_status launch_gradient(const GradientArgs& args, const Queue& queue) {
  constexpr int64_t kStrip = kGradientLanes * kPack;
  const dim3 grid(
      static_cast<unsigned>((args.cols + kStrip - 1) / kStrip),
      static_cast<unsigned>((args.batch + args.rows_per_block - 1) / args.rows_per_block));
  const dim3 block(kGradientLanes, kGradientWarps);
  const size_t shared = sizeof(Accumulator<T>) * kGradientWarps * kStrip;
  return enqueue(queue, "gradient_kernel", gradient_kernel<T, Source, kPack>, grid, block, shared,
                 args);
}

template <typename T>
splitop_status enqueue_gradient(const GradientArgs& args, const Queue& queue) {
  constexpr int kPack = kPackCount<T>;
  if constexpr (!std::is_same_v<T, Accumulator<T>>) {
    if (!args.source_of_sums) {
      return args.aligned ? launch_gradient<T, T, kPack>(args, queue)
                          : launch_gradient<T, T, 1>(args, queue);
    }
  }
  return args.aligned ? launch_gradient<T, Accumulator<T>, kPack>(args, queue)
                      : launch_gradient<T, Accumulator<T>, 1>(args, queue);
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_GRADIENT_KERNEL_H_
