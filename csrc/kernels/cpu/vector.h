// The vectors of the instruction set that a file is compiled for.
//
// Written with GCC's vector extension. Only headers without inline library code may be
// included in files that are compiled for one instruction set, or the linker could pick a
// wide copy of a shared function for the baseline.
#ifndef SPLITOP_KERNELS_CPU_VECTOR_H_
#define SPLITOP_KERNELS_CPU_VECTOR_H_

#include <stdint.h>

#define SPLITOP_INLINE inline __attribute__((always_inline))

namespace splitop {
namespace {

#if defined(SPLITOP_VECTOR_BYTES)  // a test build: the compiler splits wider vectors up
constexpr int kVectorBytes = SPLITOP_VECTOR_BYTES;
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <int kBytes>
struct Integer;
template <>
struct Integer<4> {
  using Type = int32_t;
};
template <>
struct Integer<8> {
  using Type = int64_t;
};

template <typename T>
struct Vector {
  static constexpr int kLanes = kVectorBytes / sizeof(T);
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  typedef typename Integer<sizeof(T)>::Type LaneIndex __attribute__((vector_size(kVectorBytes)));
};

// In place of those of the library and of parallel.h, which files that are compiled for one
// instruction set must not include (above).
constexpr int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_VECTOR_H_
