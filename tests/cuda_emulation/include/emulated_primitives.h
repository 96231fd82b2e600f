// What csrc/kernels/cuda/primitives.h does with PTX, done on the CPU. The functions, their
// arguments and their meaning are those of that file; a misuse that the hardware leaves undefined
// aborts.
#ifndef SPLITOP_EMULATED_PRIMITIVES_H_
#define SPLITOP_EMULATED_PRIMITIVES_H_

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)

namespace splitop {

namespace emulation {
void copy_async_wait(int pending);
void check_alignment(const char* operation, const void* address, size_t bytes);
}  // namespace emulation

unsigned char* shared_memory();

// The destination holds NaN from here on, and the data from the wait on.
void copy_async(void* shared, const void* global, bool valid);

void copy_async_commit();

template <int kPending>
void copy_async_wait() {
  static_assert(kPending >= 0);
  emulation::copy_async_wait(kPending);
}

void load_matrix_x4(uint32_t (&r)[4], const void* row);
void load_matrix_x4_trans(uint32_t (&r)[4], const void* row);

inline unsigned block_index() { return blockIdx.x; }

uint32_t to_tf32(float x);

void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <typename V>
V load_whole(const V* from) {
  emulation::check_alignment("load_whole", from, sizeof(V));
  return *from;
}
template <typename V>
void store_whole(V* to, V value) {
  emulation::check_alignment("store_whole", to, sizeof(V));
  *to = value;
}

template <typename V>
V load_streaming(const V* from) {
  static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
  emulation::check_alignment("load_streaming", from, sizeof(V));
  V value;
  memcpy(&value, from, sizeof(V));
  return value;
}

template <typename V>
void store_streaming(V* to, V value) {
  static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
  emulation::check_alignment("store_streaming", to, sizeof(V));
  memcpy(to, &value, sizeof(V));
}

float half_to_float(uint16_t bits);
uint16_t float_to_half(float x);
uint16_t float_to_bfloat16(float x);

}  // namespace splitop

#pragma GCC visibility pop

#endif  // SPLITOP_EMULATED_PRIMITIVES_H_
