// Kernels that do one thing each, for test_primitives.py: a C function launches each one.
#include <cuda_runtime.h>
#include <stdint.h>

#include "emulated_launch.h"
#include "emulated_primitives.h"

namespace {

using namespace splitop;

constexpr unsigned kAll = 0xffffffffu;

__device__ int lane() { return static_cast<int>(threadIdx.x) % warpSize; }

// ---- conversions, a number a thread ----

template <typename To, typename From, To (*kConvert)(From)>
__global__ void convert_kernel(const From* from, To* to, int count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < static_cast<unsigned>(count)) to[i] = kConvert(from[i]);
}

template <typename To, typename From, To (*kConvert)(From)>
int convert(const From* from, To* to, int count) {
  constexpr int kThreads = 96;
  return launch(convert_kernel<To, From, kConvert>, dim3((count + kThreads - 1) / kThreads),
                dim3(kThreads), 0, nullptr, from, to, count);
}

// ---- tensor cores: one warp; registers[lane][register] ----

template <void (*kMultiply)(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
__global__ void mma_kernel(float (*c)[4], const uint32_t (*a)[4], const uint32_t (*b)[2]) {
  kMultiply(c[lane()], a[lane()], b[lane()]);
}

template <void (*kMultiply)(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
int mma(float (*c)[4], const uint32_t (*a)[4], const uint32_t (*b)[2]) {
  return launch(mma_kernel<kMultiply>, dim3(1), dim3(32), 0, nullptr, c, a, b);
}

// rows[lane]: which row of the 16-byte rows in shared memory the lane points to.
template <void (*kLoad)(uint32_t (&)[4], const void*)>
__global__ void load_matrix_kernel(const uint4* from, int num_rows, const int* rows,
                                   uint32_t (*to)[4]) {
  auto* const shared = reinterpret_cast<uint4*>(shared_memory());
  for (int row = lane(); row < num_rows; row += warpSize) shared[row] = from[row];
  __syncwarp();
  kLoad(to[lane()], shared + rows[lane()]);
}

template <void (*kLoad)(uint32_t (&)[4], const void*)>
int load_matrix(const uint4* from, int num_rows, const int* rows, uint32_t (*to)[4]) {
  return launch(load_matrix_kernel<kLoad>, dim3(1), dim3(32), num_rows * sizeof(uint4), nullptr,
                from, num_rows, rows, to);
}

// ---- shuffles: to[shuffle][lane], two warps ----

template <typename T>
__global__ void shuffle_kernel(const T* from, T* to, int argument, int width) {
  const T value = from[threadIdx.x];
  to[threadIdx.x] = __shfl_xor_sync(kAll, value, argument, width);
  to[blockDim.x + threadIdx.x] = __shfl_down_sync(kAll, value, argument, width);
  to[2 * blockDim.x + threadIdx.x] = __shfl_up_sync(kAll, value, argument, width);
  to[3 * blockDim.x + threadIdx.x] = __shfl_sync(kAll, value, argument, width);
}

// The upper half of the warp takes no part.
__global__ void half_warp_kernel(const float* from, float* to) {
  to[threadIdx.x] = from[threadIdx.x];
  if (lane() < 16) to[threadIdx.x] = __shfl_xor_sync(0xffffu, from[threadIdx.x], 1);
  if (lane() < 8) to[threadIdx.x] = __shfl_down_sync(0xffu, to[threadIdx.x], 8);
}

// ---- asynchronous copies: seen[moment][thread][element] ----

// Three groups of a copy each; what has arrived is looked at before the waits and after each.
constexpr int kCopies = 3;
constexpr int kBytes = 16;

__global__ void copy_kernel(const unsigned char* from, unsigned char* seen, int num_valid) {
  constexpr int kThreadBytes = kCopies * kBytes;
  unsigned char* const mine = shared_memory() + threadIdx.x * kThreadBytes;
  for (int i = 0; i < kCopies; ++i) {
    copy_async(mine + i * kBytes, from + threadIdx.x * kThreadBytes + i * kBytes, i < num_valid);
    copy_async_commit();
  }
  const auto look = [&](int moment) {
    memcpy(seen + (moment * blockDim.x + threadIdx.x) * kThreadBytes, mine, kThreadBytes);
  };
  look(0);
  copy_async_wait<2>();
  look(1);
  copy_async_wait<1>();
  look(2);
  copy_async_wait<0>();
  look(3);
}

// ---- the rest ----

// visits[block][thread] counts, and where[block][thread] says by which indices.
__global__ void index_kernel(int* visits, uint4* where) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  ++visits[i];
  where[i] = make_uint4(blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x);
}

// The value of the thread before, by way of shared memory, and back again, many times.
__global__ void rotate_kernel(float* values, int times) {
  auto* const shared = reinterpret_cast<float*>(shared_memory());
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int time = 0; time < times; ++time) {
    shared[threadIdx.x] = values[i];
    __syncthreads();
    values[i] = shared[(threadIdx.x + blockDim.x - 1) % blockDim.x];
    __syncthreads();
  }
}

// Whether shared memory is aligned, and holds nothing but NaN in every block.
__global__ void fresh_kernel(int count, int* ok) {
  auto* const shared = reinterpret_cast<float*>(shared_memory());
  bool fresh = reinterpret_cast<uintptr_t>(shared) % 128 == 0;
  for (int i = 0; i < count; ++i) fresh = fresh && shared[i] != shared[i];
  ok[blockIdx.x] = fresh;
  for (int i = 0; i < count; ++i) shared[i] = 1.0f;
}

template <typename V>
__global__ void stream_kernel(const V* from, V* to) {
  store_streaming(to + threadIdx.x, load_streaming(from + threadIdx.x));
}

__global__ void nothing_kernel(double) {}
__global__ void late_kernel() {}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

int run_half_to_float(const uint16_t* from, float* to, int count) {
  return convert<float, uint16_t, half_to_float>(from, to, count);
}
int run_float_to_half(const float* from, uint16_t* to, int count) {
  return convert<uint16_t, float, float_to_half>(from, to, count);
}
int run_float_to_bfloat16(const float* from, uint16_t* to, int count) {
  return convert<uint16_t, float, float_to_bfloat16>(from, to, count);
}
int run_to_tf32(const float* from, uint32_t* to, int count) {
  return convert<uint32_t, float, to_tf32>(from, to, count);
}

int run_mma_tf32(float (*c)[4], const uint32_t (*a)[4], const uint32_t (*b)[2]) {
  return mma<mma_tf32>(c, a, b);
}
int run_mma_bf16(float (*c)[4], const uint32_t (*a)[4], const uint32_t (*b)[2]) {
  return mma<mma_bf16>(c, a, b);
}
int run_mma_f16(float (*c)[4], const uint32_t (*a)[4], const uint32_t (*b)[2]) {
  return mma<mma_f16>(c, a, b);
}
int run_load_matrix_x4(const uint4* from, int num_rows, const int* rows, uint32_t (*to)[4]) {
  return load_matrix<load_matrix_x4>(from, num_rows, rows, to);
}
int run_load_matrix_x4_trans(const uint4* from, int num_rows, const int* rows, uint32_t (*to)[4]) {
  return load_matrix<load_matrix_x4_trans>(from, num_rows, rows, to);
}

int run_shuffle_float(const float* from, float* to, int argument, int width) {
  return launch(shuffle_kernel<float>, dim3(1), dim3(64), 0, nullptr, from, to, argument, width);
}
int run_shuffle_double(const double* from, double* to, int argument, int width) {
  return launch(shuffle_kernel<double>, dim3(1), dim3(64), 0, nullptr, from, to, argument, width);
}
int run_half_warp(const float* from, float* to) {
  return launch(half_warp_kernel, dim3(1), dim3(32), 0, nullptr, from, to);
}

int run_copy(const unsigned char* from, unsigned char* seen, int num_valid, int threads) {
  return launch(copy_kernel, dim3(1), dim3(threads), threads * kCopies * kBytes, nullptr, from,
                seen, num_valid);
}

int run_index(int* visits, uint4* where, const int* grid, const int* block) {
  return launch(index_kernel, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]),
                0, nullptr, visits, where);
}
int run_rotate(float* values, int blocks, int threads, int times) {
  return launch(rotate_kernel, dim3(blocks), dim3(threads), threads * sizeof(float), nullptr,
                values, times);
}
int run_fresh(int blocks, int count, int* ok) {
  return launch(fresh_kernel, dim3(blocks), dim3(1), count * sizeof(float), nullptr, count, ok);
}
int run_stream_4(const float* from, float* to, int threads) {
  return launch(stream_kernel<float>, dim3(1), dim3(threads), 0, nullptr, from, to);
}
int run_stream_16(const uint4* from, uint4* to, int threads) {
  return launch(stream_kernel<uint4>, dim3(1), dim3(threads), 0, nullptr, from, to);
}

int run_nothing(const unsigned* grid, const unsigned* block, size_t shared_bytes) {
  // The argument is converted to what the kernel takes.
  return launch(nothing_kernel, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]),
                shared_bytes, nullptr, 1);
}
int allow_nothing(int shared_bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(nothing_kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
}
int load_late() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(late_kernel));
}
int run_late() { return launch(late_kernel, dim3(1), dim3(1), 0, nullptr); }
int take_last_error() { return cudaGetLastError(); }

int get_device_count(int* count) { return cudaGetDeviceCount(count); }
int get_driver_version(int* version) { return cudaDriverGetVersion(version); }
int get_attribute(int* value, int attribute, int device) {
  return cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device);
}
int get_name(char* name) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, 0);
  if (error == cudaSuccess) memcpy(name, properties.name, sizeof(properties.name));
  return error;
}

}  // extern "C"

#pragma GCC visibility pop
