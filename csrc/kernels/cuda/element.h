// Elements of device tensors: to and from the type that sums of their products are kept in.
#ifndef SPLITOP_KERNELS_CUDA_ELEMENT_H_
#define SPLITOP_KERNELS_CUDA_ELEMENT_H_

#include <stdint.h>
#include <string.h>

#include "kernels/cuda/primitives.h"
#include "kernels/cuda/strategy.h"
#include "kernels/element.h"

namespace splitop::cuda {

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(float16 x) { return half_to_float(x.bits); }
__device__ __forceinline__ float widen(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds to nearest even.
template <typename T>
__device__ __forceinline__ T narrow(Accumulator<T> x) {
  return x;
}
template <>
__device__ __forceinline__ float16 narrow<float16>(float x) {
  return {float_to_half(x)};
}
template <>
__device__ __forceinline__ bfloat16 narrow<bfloat16>(float x) {
  return {float_to_bfloat16(x)};
}

// kCount elements that one instruction moves.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T at[kCount];
};

template <typename T>
constexpr int kPackCount = static_cast<int>(kPackBytes / sizeof(T));

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_ELEMENT_H_
