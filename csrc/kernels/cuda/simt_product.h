// Products of tiles on the ordinary arithmetic units: float32 and float64 in full.
#ifndef SPLITOP_KERNELS_CUDA_SIMT_PRODUCT_H_
#define SPLITOP_KERNELS_CUDA_SIMT_PRODUCT_H_

#include "kernels/cuda/element.h"
#include "kernels/cuda/tile.h"

namespace splitop::cuda {

// One thread's share of a tile. Threads form a grid of 16 columns.
template <typename T, typename Tile_, Layout kLayout_>
class SimtProduct {
 public:
  using Element = T;
  using Tile = Tile_;
  static constexpr Layout kLayout = kLayout_;
  static constexpr bool kOnTensorCores = false;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));
  // Rows of a slice that several lanes read at once must start in different banks.
  static constexpr int kPitchA = kLayout == Layout::kDepthOuter ? Tile::kM : kDepth + kPackCount<T>;
  static constexpr int kPitchB = kLayout == Layout::kDepthOuter ? Tile::kN : kDepth + kPackCount<T>;

  __device__ __forceinline__ void add(const T* a_slice, const T* b_slice) {
    if constexpr (kLayout == Layout::kDepthOuter) {
      add_outer(a_slice, b_slice);
    } else {
      add_inner(a_slice, b_slice);
    }
  }

  // 16 bytes at a time where a thread's columns lie side by side.
  __device__ __forceinline__ void store(T* result, int pitch) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kCols; j += kRun) {
        Pack<T, kRun> run;
#pragma unroll
        for (int k = 0; k < kRun; ++k) run.at[k] = sum_[i][j + k];
        *reinterpret_cast<Pack<T, kRun>*>(result + row(i) * pitch + col(j)) = run;
      }
    }
  }

 private:
  static constexpr int kThreadsN = 16;
  static constexpr int kThreadsM = Tile::kThreads / kThreadsN;
  static constexpr int kRows = Tile::kM / kThreadsM;  // of a thread
  static constexpr int kCols = Tile::kN / kThreadsN;
  static constexpr int kPack = kPackCount<T>;
  using Vector = Pack<T, kPack>;
  static_assert(kRows % kPack == 0 && kCols % kPack == 0);

  // Packs lie along the extent if it is contiguous, along the depth if that is.
  static constexpr int kRun = kLayout == Layout::kDepthOuter ? kPack : 1;

  static __device__ __forceinline__ int row(int i) {
    const int thread = static_cast<int>(threadIdx.x) / kThreadsN;
    return (i / kRun * kThreadsM + thread) * kRun + i % kRun;
  }
  static __device__ __forceinline__ int col(int j) {
    const int thread = static_cast<int>(threadIdx.x) % kThreadsN;
    return (j / kRun * kThreadsN + thread) * kRun + j % kRun;
  }
  static __device__ __forceinline__ Vector vector(const T* from) {
    return *reinterpret_cast<const Vector*>(from);
  }

  __device__ __forceinline__ void add_outer(const T* a_slice, const T* b_slice) {
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth) {
      Vector a[kRows / kPack];
      Vector b[kCols / kPack];
#pragma unroll
      for (int i = 0; i < kRows; i += kPack) {
        a[i / kPack] = vector(a_slice + depth * kPitchA + row(i));
      }
#pragma unroll
      for (int j = 0; j < kCols; j += kPack) {
        b[j / kPack] = vector(b_slice + depth * kPitchB + col(j));
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kCols; ++j) {
          sum_[i][j] += a[i / kPack].at[i % kPack] * b[j / kPack].at[j % kPack];
        }
      }
    }
  }

  __device__ __forceinline__ void add_inner(const T* a_slice, const T* b_slice) {
// Unrolled, the loads of several steps would be in flight, for which there are no registers.
#pragma unroll 1
    for (int depth = 0; depth < kDepth; depth += kPack) {
      Vector a[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) a[i] = vector(a_slice + row(i) * kPitchA + depth);
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        const Vector b = vector(b_slice + col(j) * kPitchB + depth);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
          for (int d = 0; d < kPack; ++d) sum_[i][j] += a[i].at[d] * b.at[d];
        }
      }
    }
  }

  T sum_[kRows][kCols] = {};
};

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_SIMT_PRODUCT_H_
