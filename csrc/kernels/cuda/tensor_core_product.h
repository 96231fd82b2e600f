// Products of tiles on the tensor cores: TF32, bfloat16 and float16 factors, float32 sums.
#ifndef SPLITOP_KERNELS_CUDA_TENSOR_CORE_PRODUCT_H_
#define SPLITOP_KERNELS_CUDA_TENSOR_CORE_PRODUCT_H_

#include <stdint.h>

#include "kernels/cuda/element.h"
#include "kernels/cuda/primitives.h"
#include "kernels/cuda/tile.h"

namespace splitop::cuda {

// Fragments of a 16 x kStep part of A and of two 8 x kStep parts of B, side by side. `row` and
// `depth` are places in the slice. The pitches keep the accesses of a warp in different banks.
template <typename T, Layout kLayout>
struct Fragments;

template <Layout kLayout>
struct Fragments<float, kLayout> {
  static constexpr int kStep = 8;
  static constexpr int kPadding = kLayout == Layout::kDepthOuter ? 8 : 4;

  static __device__ __forceinline__ void load_a(uint32_t (&a)[4], const float* slice, int pitch,
                                                int row, int depth) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = element(slice, pitch, row + i % 2 * 8, depth + i / 2 * 4);
    }
  }

  static __device__ __forceinline__ void load_b(uint32_t (&b)[2][2], const float* slice, int pitch,
                                                int row, int depth) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[i / 2][i % 2] = element(slice, pitch, row + i / 2 * 8, depth + i % 2 * 4);
    }
  }

  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_tf32(c, a, b);
  }

 private:
  static __device__ __forceinline__ uint32_t element(const float* slice, int pitch, int row,
                                                     int depth) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row += lane / 4;
    depth += lane % 4;
    return to_tf32(
        slice[kLayout == Layout::kDepthOuter ? depth * pitch + row : row * pitch + depth]);
  }
};

template <typename T, Layout kLayout>
struct Fragments16 {
  static constexpr int kStep = 16;
  static constexpr int kPadding = 8;

  // The four matrices of A: rows 0 and 8 at the first depth, then at the second.
  static __device__ __forceinline__ void load_a(uint32_t (&a)[4], const T* slice, int pitch,
                                                int row, int depth) {
    load_four(a, slice, pitch, row + matrix() % 2 * 8, depth + matrix() / 2 * 8);
  }

  // The four matrices of B: both depths of the first eight rows, then of the second.
  static __device__ __forceinline__ void load_b(uint32_t (&b)[2][2], const T* slice, int pitch,
                                                int row, int depth) {
    uint32_t four[4];
    load_four(four, slice, pitch, row + matrix() / 2 * 8, depth + matrix() % 2 * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = four[i];
  }

 private:
  static __device__ __forceinline__ int matrix() { return static_cast<int>(threadIdx.x) % 32 / 8; }

  // Every lane passes the address of one row of memory of its matrix.
  static __device__ __forceinline__ void load_four(uint32_t (&four)[4], const T* slice, int pitch,
                                                   int row, int depth) {
    const int line = static_cast<int>(threadIdx.x) % 8;
    if constexpr (kLayout == Layout::kDepthOuter) {
      load_matrix_x4_trans(four, slice + (depth + line) * pitch + row);
    } else {
      load_matrix_x4(four, slice + (row + line) * pitch + depth);
    }
  }
};

template <Layout kLayout>
struct Fragments<bfloat16, kLayout> : Fragments16<bfloat16, kLayout> {
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_bf16(c, a, b);
  }
};

template <Layout kLayout>
struct Fragments<float16, kLayout> : Fragments16<float16, kLayout> {
  static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
    mma_f16(c, a, b);
  }
};

// One thread's share of a tile. Two warps share the rows of the tile, the others its columns.
template <typename T, typename Tile_, Layout kLayout_>
class TensorCoreProduct {
 public:
  using Element = T;
  using Tile = Tile_;
  static constexpr Layout kLayout = kLayout_;
  static constexpr bool kOnTensorCores = true;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));
  static constexpr int kPitchA =
      (kLayout == Layout::kDepthOuter ? Tile::kM : kDepth) + Fragments<T, kLayout>::kPadding;
  static constexpr int kPitchB =
      (kLayout == Layout::kDepthOuter ? Tile::kN : kDepth) + Fragments<T, kLayout>::kPadding;

  __device__ __forceinline__ void add(const T* a_slice, const T* b_slice) {
#pragma unroll
    for (int depth = 0; depth < kDepth; depth += Part::kStep) {
      uint32_t a[kPartsM][4];
      uint32_t b[kPartsN / 2][2][2];
#pragma unroll
      for (int i = 0; i < kPartsM; ++i) {
        Part::load_a(a[i], a_slice, kPitchA, first_row() + i * 16, depth);
      }
#pragma unroll
      for (int j = 0; j < kPartsN / 2; ++j) {
        Part::load_b(b[j], b_slice, kPitchB, first_col() + j * 16, depth);
      }
#pragma unroll
      for (int i = 0; i < kPartsM; ++i) {
#pragma unroll
        for (int j = 0; j < kPartsN; ++j) Part::multiply(sum_[i][j], a[i], b[j / 2][j % 2]);
      }
    }
  }

  __device__ __forceinline__ void store(float* result, int pitch) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* const corner = result + (first_row() + lane / 4) * pitch + first_col() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kPartsM; ++i) {
#pragma unroll
      for (int j = 0; j < kPartsN; ++j) {
        float* const to = corner + i * 16 * pitch + j * 8;
        *reinterpret_cast<float2*>(to) = make_float2(sum_[i][j][0], sum_[i][j][1]);
        *reinterpret_cast<float2*>(to + 8 * pitch) = make_float2(sum_[i][j][2], sum_[i][j][3]);
      }
    }
  }

 private:
  using Part = Fragments<T, kLayout>;
  static constexpr int kWarpsM = 2;
  static constexpr int kWarpsN = Tile::kThreads / 32 / kWarpsM;
  static constexpr int kRows = Tile::kM / kWarpsM;  // of a warp
  static constexpr int kCols = Tile::kN / kWarpsN;
  static constexpr int kPartsM = kRows / 16;
  static constexpr int kPartsN = kCols / 8;
  static_assert(kRows % 16 == 0 && kCols % 16 == 0 && kDepth % Part::kStep == 0);

  static __device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) / 32; }
  static __device__ __forceinline__ int first_row() { return warp() % kWarpsM * kRows; }
  static __device__ __forceinline__ int first_col() { return warp() / kWarpsM * kCols; }

  float sum_[kPartsM][kPartsN][4] = {};
};

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_TENSOR_CORE_PRODUCT_H_
