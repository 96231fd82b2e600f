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

// g[i] becomes activation'(r[i]) * g[i]
template <typename Sum, int kPack>
__device__ __forceinline__ void apply_activation(splitop_activation activation, Sum (&g)[kPack],
                                                 const Sum (&r)[kPack], Sum alpha) {
  with_activation(activation, [&](auto tag) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      g[i] = activation_gradient<decltype(tag)::kActivation>(g[i], r[i], alpha);
    }
  });
}

// Adds the packs at `offset` of all splits.
template <typename Source, typename Sum, int kPack>
__device__ __forceinline__ void load_sum(Sum (&g)[kPack], const Source* source, int splits,
                                         int64_t split_stride, int64_t offset) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) g[i] = Sum(0);
  for (int split = 0; split < splits; ++split) {
    const auto pack =
        *reinterpret_cast<const Pack<Source, kPack>*>(source + split * split_stride + offset);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] += widen(pack.at[i]);
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

  Sum sums[kPack] = {};
  for (int64_t row = first + threadIdx.y; inside && row < end; row += kGradientWarps) {
    const int64_t offset = row * args.cols + col;
    Sum g[kPack];
    load_sum(g, source, args.splits, args.batch * args.cols, offset);
    if (args.activation != SPLITOP_LINEAR) {
      const auto pack = *reinterpret_cast<const Pack<T, kPack>*>(reference + offset);
      Sum r[kPack];
#pragma unroll
      for (int i = 0; i < kPack; ++i) r[i] = widen(pack.at[i]);
      apply_activation(args.activation, g, r, static_cast<Sum>(args.alpha));
    }
    if (gradient != nullptr) {
      Pack<T, kPack> pack;
#pragma unroll
      for (int i = 0; i < kPack; ++i) pack.at[i] = narrow<T>(g[i]);
      *reinterpret_cast<Pack<T, kPack>*>(gradient + offset) = pack;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) sums[i] += g[i];
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
cudaError_t launch_gradient(const GradientArgs& args, cudaStream_t stream) {
  constexpr int64_t kStrip = kGradientLanes * kPack;
  const dim3 grid(
      static_cast<unsigned>((args.cols + kStrip - 1) / kStrip),
      static_cast<unsigned>((args.batch + args.rows_per_block - 1) / args.rows_per_block));
  const dim3 block(kGradientLanes, kGradientWarps);
  const size_t shared = sizeof(Accumulator<T>) * kGradientWarps * kStrip;
  return launch(gradient_kernel<T, Source, kPack>, grid, block, shared, stream, args);
}

template <typename T>
cudaError_t enqueue_gradient(const GradientArgs& args, cudaStream_t stream) {
  constexpr int kPack = kPackCount<T>;
  if constexpr (!std::is_same_v<T, Accumulator<T>>) {
    if (!args.source_of_sums) {
      return args.aligned ? launch_gradient<T, T, kPack>(args, stream)
                          : launch_gradient<T, T, 1>(args, stream);
    }
  }
  return args.aligned ? launch_gradient<T, Accumulator<T>, kPack>(args, stream)
                      : launch_gradient<T, Accumulator<T>, 1>(args, stream);
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_GRADIENT_KERNEL_H_
