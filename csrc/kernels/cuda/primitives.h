// The instructions that CUDA C++ has no portable name for. All inline PTX of the project is here.
#ifndef SPLITOP_KERNELS_CUDA_PRIMITIVES_H_
#define SPLITOP_KERNELS_CUDA_PRIMITIVES_H_

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

#ifdef SPLITOP_CUDA_EMULATION
#include "emulated_primitives.h"
#else

namespace splitop {

// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char splitop_shared[];
  return splitop_shared;
}

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// blockIdx.x, read anew: nothing that is derived from it has to be kept.
__device__ __forceinline__ unsigned block_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%ctaid.x;\n" : "=r"(index));
  return index;
}

// ---- asynchronous copies from global to shared memory ----

// Copies 16 bytes, or writes zeros if not valid; `global` is not read then. Past L1: a tile's data
// are read once by the block.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  const int read = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(read)
               : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits until at most kPending of this thread's committed groups are under way.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// ---- tensor cores: fragments as in the PTX ISA, "mma.m16n8k8" and "mma.m16n8k16" ----

// Four 8x8 matrices of 16-bit elements; lane l passes the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// To nearest, ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

// c += a b
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- global memory ----

// By one instruction, if of 16 bytes: the compiler may take one for each element of a struct.
template <typename V>
__device__ __forceinline__ V load_whole(const V* from) {
  if constexpr (sizeof(V) == 16) {
    __builtin_assume(__isGlobal(from));
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    V value;
    memcpy(&value, &bits, sizeof(V));
    return value;
  } else {
    __builtin_assume(__isGlobal(from));
    return *from;
  }
}
template <typename V>
__device__ __forceinline__ void store_whole(V* to, V value) {
  if constexpr (sizeof(V) == 16) {
    uint4 bits;
    memcpy(&bits, &value, sizeof(V));
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(__cvta_generic_to_global(to)),
                 "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
                 : "memory");
  } else {
    *to = value;
  }
}

// ---- global memory that is used once: first to be evicted from the caches ----

template <typename V>
__device__ __forceinline__ V load_streaming(const V* from) {
  static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
  V value;
  if constexpr (sizeof(V) == 16) {
    const uint4 bits = __ldcs(reinterpret_cast<const uint4*>(from));
    memcpy(&value, &bits, sizeof(V));
  } else if constexpr (sizeof(V) == 8) {
    const uint2 bits = __ldcs(reinterpret_cast<const uint2*>(from));
    memcpy(&value, &bits, sizeof(V));
  } else {
    const uint32_t bits = __ldcs(reinterpret_cast<const uint32_t*>(from));
    memcpy(&value, &bits, sizeof(V));
  }
  return value;
}
template <typename V>
__device__ __forceinline__ void store_streaming(V* to, V value) {
  static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
  if constexpr (sizeof(V) == 16) {
    uint4 bits;
    memcpy(&bits, &value, sizeof(V));
    __stcs(reinterpret_cast<uint4*>(to), bits);
  } else if constexpr (sizeof(V) == 8) {
    uint2 bits;
    memcpy(&bits, &value, sizeof(V));
    __stcs(reinterpret_cast<uint2*>(to), bits);
  } else {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(V));
    __stcs(reinterpret_cast<uint32_t*>(to), bits);
  }
}

// ---- 16-bit floats ----

__device__ __forceinline__ float half_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;\n" : "=f"(value) : "h"(bits));
  return value;
}
__device__ __forceinline__ uint16_t float_to_half(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;\n" : "=h"(bits) : "f"(x));
  return bits;
}
__device__ __forceinline__ uint16_t float_to_bfloat16(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;\n" : "=h"(bits) : "f"(x));
  return bits;
}

}  // namespace splitop

#endif  // SPLITOP_CUDA_EMULATION

#endif  // SPLITOP_KERNELS_CUDA_PRIMITIVES_H_
