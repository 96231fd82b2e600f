// Stands in for CUDA's header of this name, so that g++ compiles CUDA sources for the CPU.
// What is missing here, no kernel has needed yet. What the product must not use (cudaMalloc, a
// synchronisation, static shared memory) is left out on purpose.
#ifndef SPLITOP_EMULATION_CUDA_RUNTIME_H_
#define SPLITOP_EMULATION_CUDA_RUNTIME_H_

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CUDART_VERSION 13000

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

// ---- vector types ----

#define SPLITOP_EMULATED_VECTORS(scalar, name)                                      \
  struct name##1 { scalar x; };                                                     \
  struct alignas(2 * sizeof(scalar)) name##2 { scalar x, y; };                      \
  struct name##3 { scalar x, y, z; };                                               \
  struct alignas(4 * sizeof(scalar)) name##4 { scalar x, y, z, w; };                \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }              \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; } \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

SPLITOP_EMULATED_VECTORS(unsigned char, uchar)
SPLITOP_EMULATED_VECTORS(short, short)
SPLITOP_EMULATED_VECTORS(unsigned short, ushort)
SPLITOP_EMULATED_VECTORS(int, int)
SPLITOP_EMULATED_VECTORS(unsigned int, uint)
SPLITOP_EMULATED_VECTORS(float, float)
#undef SPLITOP_EMULATED_VECTORS

struct alignas(16) double2 {
  double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

// Nothing of the emulation is seen outside the library that it is compiled into.
#pragma GCC visibility push(hidden)

// ---- in a kernel ----

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

// The source line tells one barrier from another: all threads have to be at the same one.
void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE());

void __syncwarp(unsigned int mask = 0xffffffffu);

namespace splitop::emulation {
// Lane `source` of the warp's `value`, 4 or 8 bytes wide.
uint64_t exchange(unsigned int mask, uint64_t value, int source);
int current_lane();

template <typename T>
T shuffle(unsigned int mask, T value, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source);
  memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace splitop::emulation

// A lane whose source lies outside its segment of `width` lanes keeps its own value.
template <typename T>
T __shfl_sync(unsigned int mask, T value, int source, int width = warpSize) {
  const int first = splitop::emulation::current_lane() & ~(width - 1);
  return splitop::emulation::shuffle(mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned int mask, T value, int lane_mask, int width = warpSize) {
  const int lane = splitop::emulation::current_lane();
  const int last = lane | (width - 1);
  const int source = lane ^ lane_mask;
  return splitop::emulation::shuffle(mask, value, source > last ? lane : source);
}
template <typename T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize) {
  const int lane = splitop::emulation::current_lane();
  const int last = lane | (width - 1);
  const int source = lane + static_cast<int>(delta);
  return splitop::emulation::shuffle(mask, value, source > last ? lane : source);
}
template <typename T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize) {
  const int lane = splitop::emulation::current_lane();
  const int first = lane & ~(width - 1);
  const int source = lane - static_cast<int>(delta);
  return splitop::emulation::shuffle(mask, value, source < first ? lane : source);
}

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

template <typename T>
T __ldg(const T* from) {
  return *from;
}

// Threads run one at a time.
template <typename T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
template <typename T>
T atomicOr(T* at, T value) {
  const T before = *at;
  *at |= value;
  return before;
}

// ---- the runtime's API: one device; its memory is the host's; what is enqueued runs at once ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorStubLibrary = 34,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotSupported = 801,
  cudaErrorSystemNotReady = 802,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorCompatNotSupportedOnDevice = 804,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorUnknown = 999
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrClockRate = 13,  // kHz
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMemoryClockRate = 36,       // kHz
  cudaDevAttrGlobalMemoryBusWidth = 37,  // bits
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

struct cudaFuncAttributes {  // of what CUDA tells, what splitop may ask for
  size_t sharedSizeBytes;
  int maxThreadsPerBlock;
  int maxDynamicSharedSizeBytes;
};

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};

enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};

typedef struct CUstream_st* cudaStream_t;

struct cudaDeviceProp {  // what CUDA 13 has left in it, and splitop may ask for
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock;
  size_t sharedMemPerBlockOptin;
  size_t sharedMemPerMultiprocessor;
  int major;
  int minor;
  int multiProcessorCount;
  int maxThreadsPerBlock;
  int maxThreadsPerMultiProcessor;
  int l2CacheSize;
  int memoryBusWidth;
};

cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);

#pragma GCC visibility pop

#endif  // SPLITOP_EMULATION_CUDA_RUNTIME_H_
