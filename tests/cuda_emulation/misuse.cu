// Wrong kernels, each beside a right one: `misuse <name>` runs one and prints what it has made.
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>

#include <string>

#include "emulated_launch.h"
#include "emulated_primitives.h"

namespace {

using namespace splitop;

constexpr int kBlocks = 8;
constexpr int kThreads = 128;
constexpr unsigned kAll = 0xffffffffu;

enum class Mistake { kNone, kNoBarrier, kNoSecondBarrier, kNoWait };

float* shared_floats() { return reinterpret_cast<float*>(shared_memory()); }

// Adds up what the block has written, twice. Right: the same as on one thread.
template <Mistake kMistake>
__global__ void sum_kernel(const float* from, float* to) {
  float* const shared = shared_floats();
  float sum = 0.0f;
  for (int round = 1; round <= 2; ++round) {
    shared[threadIdx.x] = from[threadIdx.x] * static_cast<float>(round);
    if (kMistake != Mistake::kNoBarrier) __syncthreads();
    for (int i = 0; i < kThreads; ++i) sum += shared[i];
    if (kMistake != Mistake::kNoSecondBarrier) __syncthreads();
  }
  to[blockIdx.x * kThreads + threadIdx.x] = sum;
}

// The same between the lanes of a warp.
template <Mistake kMistake>
__global__ void warp_sum_kernel(const float* from, float* to) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  float* const shared = shared_floats() + threadIdx.x - lane;
  shared[lane] = from[lane];
  if (kMistake != Mistake::kNoBarrier) __syncwarp();
  float sum = 0.0f;
  for (int i = 0; i < warpSize; ++i) sum += shared[i];
  to[blockIdx.x * kThreads + threadIdx.x] = sum;
}

// Through cp.async, every fourth thread its own four elements.
template <Mistake kMistake>
__global__ void copy_kernel(const float* from, float* to) {
  float* const shared = shared_floats();
  if (threadIdx.x % 4 == 0) copy_async(shared + threadIdx.x, from + threadIdx.x, true);
  copy_async_commit();
  if (kMistake == Mistake::kNoWait) {
    copy_async_wait<1>();  // may leave it under way
  } else {
    copy_async_wait<0>();
  }
  if (kMistake != Mistake::kNoBarrier) __syncthreads();
  to[blockIdx.x * kThreads + threadIdx.x] = shared[(threadIdx.x + 64) % kThreads];
}

// Not all threads come to the barrier, or not to the same one.
__global__ void some_at_barrier_kernel(const float*, float*) {
  if (threadIdx.x < 40) __syncthreads();
}
__global__ void some_leave_kernel(const float*, float*) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void two_barriers_kernel(const float*, float*) {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void barrier_in_warp_operation_kernel(const float*, float* to) {
  if (threadIdx.x == 5) {
    __syncthreads();
    __syncwarp();
  } else {
    __syncwarp();
    __syncthreads();
  }
  to[0] = 0.0f;
}

// Warp operations that not all lanes come to, or that differ.
__global__ void some_in_mma_kernel(const float*, float* to) {
  float c[4] = {};
  const uint32_t a[4] = {};
  const uint32_t b[2] = {};
  if (threadIdx.x != 3) mma_tf32(c, a, b);
  to[threadIdx.x] = c[0];
}
__global__ void two_operations_kernel(const float*, float* to) {
  float c[4] = {};
  const uint32_t a[4] = {};
  const uint32_t b[2] = {};
  if (threadIdx.x % 2) {
    mma_tf32(c, a, b);
  } else {
    mma_bf16(c, a, b);
  }
  to[threadIdx.x] = c[0];
}
__global__ void wrong_mask_kernel(const float*, float* to) {
  to[threadIdx.x] = __shfl_xor_sync(0xfffffffeu, 1.0f, 1);
}
__global__ void from_absent_lane_kernel(const float*, float* to) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  if (lane < 16) to[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 16);
}

// Addresses.
__global__ void unaligned_copy_kernel(const float* from, float*) {
  copy_async(shared_memory() + 16 * (threadIdx.x % warpSize), from + 1, true);
}
__global__ void copy_outside_kernel(const float* from, float*) {
  copy_async(shared_memory() + 16 * threadIdx.x, from, true);
}
__global__ void load_matrix_outside_kernel(const float*, float* to) {
  uint32_t r[4];
  load_matrix_x4(r, shared_memory() + 4 * kThreads);
  to[threadIdx.x] = static_cast<float>(r[0]);
}
__global__ void unaligned_stream_kernel(const float* from, float* to) {
  store_streaming(reinterpret_cast<float4*>(to + 1), *reinterpret_cast<const float4*>(from));
}
__global__ void read_outside_kernel(const float*, float* to) {
  to[threadIdx.x] = shared_floats()[threadIdx.x + 1];
}
__global__ void write_outside_kernel(const float*, float*) {
  shared_floats()[threadIdx.x + 1] = 1.0f;
}
__global__ void copy_from_outside_kernel(const float* from, float*) {
  copy_async(shared_memory() + 16 * (threadIdx.x % warpSize), from + kThreads, true);
  copy_async_commit();
  copy_async_wait<0>();
}
__global__ void deep_stack_kernel(const float*, float* to) {
  volatile char stack[4 << 20];
  for (size_t i = sizeof(stack); i > 0; i -= 1024) stack[i - 1] = 1;
  to[threadIdx.x] = static_cast<float>(stack[0]);
}

struct Case {
  const char* name;
  void (*kernel)(const float*, float*);
};

constexpr Case kCases[] = {
    {"sum", sum_kernel<Mistake::kNone>},
    {"sum_no_barrier", sum_kernel<Mistake::kNoBarrier>},
    {"sum_no_second_barrier", sum_kernel<Mistake::kNoSecondBarrier>},
    {"warp_sum", warp_sum_kernel<Mistake::kNone>},
    {"warp_sum_no_barrier", warp_sum_kernel<Mistake::kNoBarrier>},
    {"copy", copy_kernel<Mistake::kNone>},
    {"copy_no_wait", copy_kernel<Mistake::kNoWait>},
    {"copy_no_barrier", copy_kernel<Mistake::kNoBarrier>},
    {"some_at_barrier", some_at_barrier_kernel},
    {"some_leave", some_leave_kernel},
    {"two_barriers", two_barriers_kernel},
    {"barrier_in_warp_operation", barrier_in_warp_operation_kernel},
    {"some_in_mma", some_in_mma_kernel},
    {"two_operations", two_operations_kernel},
    {"wrong_mask", wrong_mask_kernel},
    {"from_absent_lane", from_absent_lane_kernel},
    {"unaligned_copy", unaligned_copy_kernel},
    {"copy_outside", copy_outside_kernel},
    {"load_matrix_outside", load_matrix_outside_kernel},
    {"unaligned_stream", unaligned_stream_kernel},
    {"read_outside", read_outside_kernel},
    {"write_outside", write_outside_kernel},
    {"copy_from_outside", copy_from_outside_kernel},
    {"deep_stack", deep_stack_kernel},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  for (const Case& test : kCases) {
    if (name != test.name) continue;
    float* const from = new float[kThreads];
    float* const to = new float[kBlocks * kThreads]();
    for (int i = 0; i < kThreads; ++i) from[i] = static_cast<float>(i);
    const cudaError_t error = launch(test.kernel, dim3(kBlocks), dim3(kThreads),
                                     kThreads * sizeof(float), nullptr, from, to);
    for (int i = 0; i < kBlocks * kThreads; ++i) printf("%g ", to[i]);
    delete[] from;
    delete[] to;
    return error;
  }
  fprintf(stderr, "no such case: %s\n", name.c_str());
  return 2;
}
