// The CUDA runtime of a machine with one small GPU; or, if SPLITOP_EMULATED_CUDA says so, of one
// that lacks something, answered as the real runtime answers there.
#include "runtime.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <mutex>

namespace splitop::emulation {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxBlockZ = 64;
constexpr unsigned int kMaxGridX = 0x7fffffffu;
constexpr unsigned int kMaxGridYZ = 65535;
constexpr int kMaxShared = 227 * 1024;
constexpr int kSharedWithoutAsking = 48 * 1024;

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

bool state_is(const char* state) {
  const char* const set = getenv("SPLITOP_EMULATED_CUDA");
  return strcmp(set ? set : "ready", state) == 0;
}

// What every call answers that needs a device.
cudaError_t device_error() {
  if (state_is("ready") || state_is("old_device")) return cudaSuccess;
  if (state_is("no_driver") || state_is("old_driver")) return cudaErrorInsufficientDriver;
  if (state_is("no_device")) return cudaErrorNoDevice;
  if (state_is("broken")) return cudaErrorUnknown;
  fprintf(stderr, "splitop emulation: unknown SPLITOP_EMULATED_CUDA: %s\n",
          getenv("SPLITOP_EMULATED_CUDA"));
  abort();
}

cudaError_t device_error(int device) {
  const cudaError_t error = device_error();
  if (error != cudaSuccess) return error;
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

int major() { return state_is("old_device") ? 7 : 9; }
int minor() { return state_is("old_device") ? 5 : 0; }

struct Attribute {
  cudaDeviceAttr name;
  int value;
};

// Four multiprocessors and a small cache: matrices that are small too need several blocks and
// several chunks.
constexpr Attribute kAttributes[] = {
    {cudaDevAttrMaxThreadsPerBlock, kMaxThreads},
    {cudaDevAttrMaxSharedMemoryPerBlock, 48 * 1024},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin, kMaxShared},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 228 * 1024},
    {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    {cudaDevAttrMultiProcessorCount, 4},
    {cudaDevAttrL2CacheSize, 1024 * 1024},
    {cudaDevAttrClockRate, 1000 * 1000},
    {cudaDevAttrMemoryClockRate, 1000 * 1000},
    {cudaDevAttrGlobalMemoryBusWidth, 256},
};

bool find_attribute(cudaDeviceAttr name, int* value) {
  if (name == cudaDevAttrComputeCapabilityMajor || name == cudaDevAttrComputeCapabilityMinor) {
    *value = name == cudaDevAttrComputeCapabilityMajor ? major() : minor();
    return true;
  }
  for (const Attribute& attribute : kAttributes) {
    if (attribute.name != name) continue;
    *value = attribute.value;
    return true;
  }
  return false;
}

int attribute(cudaDeviceAttr name) {
  int value = 0;
  find_attribute(name, &value);
  return value;
}

bool possible(const dim3& grid, const dim3& block) {
  if (grid.x == 0 || grid.x > kMaxGridX) return false;
  if (grid.y == 0 || grid.y > kMaxGridYZ || grid.z == 0 || grid.z > kMaxGridYZ) return false;
  if (block.x == 0 || block.x > kMaxThreads || block.y == 0 || block.y > kMaxThreads) return false;
  if (block.z == 0 || block.z > kMaxBlockZ) return false;
  return block.x * block.y * block.z <= kMaxThreads;
}

// ---- kernels: loaded when first used, and never forgotten ----

// A number from the environment.
int setting(const char* name, int otherwise) {
  const char* const text = getenv(name);
  return text ? static_cast<int>(strtol(text, nullptr, 10)) : otherwise;
}

// The dynamic shared memory that each of the loaded kernels may have.
std::mutex loading;
std::map<const void*, int> loaded;

// With the mutex held.
cudaError_t load(const void* kernel) {
  const cudaError_t error = device_error();
  if (error != cudaSuccess) return error;
  if (state_is("old_device")) return cudaErrorNoKernelImageForDevice;
  if (loaded.count(kernel) != 0) return cudaSuccess;
  const int room = setting("SPLITOP_EMULATED_KERNELS", INT_MAX);
  if (static_cast<int>(loaded.size()) >= room) return cudaErrorMemoryAllocation;
  loaded[kernel] = kSharedWithoutAsking;
  return cudaSuccess;
}

cudaError_t load_with_shared(const void* kernel, size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(loading);
  const cudaError_t error = load(kernel);
  if (error != cudaSuccess) return error;
  return shared_bytes <= static_cast<size_t>(loaded[kernel]) ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

cudaError_t check_launch(const void* kernel, const dim3& grid, const dim3& block,
                         size_t shared_bytes) {
  const cudaError_t error = device_error();
  if (error != cudaSuccess) return answer(error);
  if (!possible(grid, block)) return answer(cudaErrorInvalidConfiguration);
  return answer(load_with_shared(kernel, shared_bytes));
}

}  // namespace splitop::emulation

using namespace splitop::emulation;

cudaError_t cudaDriverGetVersion(int* version) {  // works without a driver, too
  *version = CUDART_VERSION;
  if (state_is("no_driver")) *version = 0;
  if (state_is("old_driver")) *version = 11040;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const cudaError_t error = device_error();
  *count = error == cudaSuccess ? 1 : 0;
  return answer(error);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return answer(device_error());
}

cudaError_t cudaSetDevice(int device) { return answer(device_error(device)); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  const cudaError_t error = device_error(device);
  if (error != cudaSuccess) return answer(error);
  return answer(find_attribute(name, value) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const cudaError_t error = device_error(device);
  if (error != cudaSuccess) return answer(error);
  *properties = {};
  strcpy(properties->name, "Emulated device");
  properties->totalGlobalMem = size_t{1} << 30;
  properties->sharedMemPerBlock = attribute(cudaDevAttrMaxSharedMemoryPerBlock);
  properties->sharedMemPerBlockOptin = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  properties->sharedMemPerMultiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  properties->major = major();
  properties->minor = minor();
  properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
  properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
  properties->maxThreadsPerMultiProcessor = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  properties->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
  properties->memoryBusWidth = attribute(cudaDevAttrGlobalMemoryBusWidth);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  const cudaError_t error = device_error();
  if (error == cudaSuccess && bytes > 0) memcpy(to, from, bytes);
  return answer(error);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  const cudaError_t error = device_error();
  if (error == cudaSuccess && bytes > 0) memset(to, value, bytes);
  return answer(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return answer(device_error());
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const std::lock_guard<std::mutex> lock(loading);
  const cudaError_t error = load(kernel);
  if (error != cudaSuccess) return answer(error);
  *attributes = {0, kMaxThreads, loaded[kernel]};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const std::lock_guard<std::mutex> lock(loading);
  const cudaError_t error = load(kernel);
  if (error != cudaSuccess) return answer(error);
  const int most = setting("SPLITOP_EMULATED_SHARED_BYTES", kMaxShared);
  if (value < 0 || value > most) return answer(cudaErrorInvalidValue);
  loaded[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorUnknown:
      return "cudaErrorUnknown";
    default:
      return "unrecognized error code";
  }
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
