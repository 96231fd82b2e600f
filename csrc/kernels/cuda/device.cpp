// What the CUDA runtime says of this machine: its driver, and its devices.
#include <cuda_runtime_api.h>
#include <string.h>

#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/failure.h"
#include "splitop/cuda.h"

namespace splitop {
namespace {

constexpr int kOldestCapability = 80;
constexpr int kNewestMachineCode = 9;  // major version; newer devices run the PTX
// Some virtual and integrated GPUs do not tell their clocks: the choice of a strategy needs some.
constexpr int64_t kNominalClockHz = 1'500'000'000;
constexpr int64_t kNominalBandwidth = 1'000'000'000'000;

// A failed call leaves its error for whoever asks for the last one: takes it away.
cudaError_t forget(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

cudaError_t attribute(int* value, cudaDeviceAttr name, int device) {
  return forget(cudaDeviceGetAttribute(value, name, device));
}

// 10 * major + minor; 0 if the driver does not say.
int compute_capability(int device) {
  int major = 0;
  int minor = 0;
  if (attribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) return 0;
  if (attribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) return 0;
  return 10 * major + minor;
}

// A driver can run machine code of a newer minor version, but not compile its PTX.
bool driver_suits(int capability) {
  return capability / 10 <= kNewestMachineCode ||
         splitop_cuda_driver_version() >= splitop_cuda_built_version();
}

splitop_cuda_state best_of(int num_devices) {
  splitop_cuda_state best = SPLITOP_CUDA_OLD_DEVICE;
  for (int device = 0; device < num_devices; ++device) {
    const int capability = compute_capability(device);
    if (capability < kOldestCapability) continue;
    if (driver_suits(capability)) return SPLITOP_CUDA_READY;
    best = SPLITOP_CUDA_OLD_DRIVER;
  }
  return best;
}

splitop_cuda_state query() {
  int num_devices = 0;
  switch (forget(cudaGetDeviceCount(&num_devices))) {
    case cudaSuccess:
      return num_devices > 0 ? best_of(num_devices) : SPLITOP_CUDA_NO_DEVICE;
    case cudaErrorNoDevice:
      return SPLITOP_CUDA_NO_DEVICE;
    case cudaErrorInsufficientDriver:  // also if there is none
      return splitop_cuda_driver_version() == 0 ? SPLITOP_CUDA_NO_DRIVER : SPLITOP_CUDA_OLD_DRIVER;
    default:
      return SPLITOP_CUDA_BROKEN;
  }
}

splitop_status read_device(int device, splitop_cuda_device* info) {
  int sms = 0;
  int l2 = 0;
  int clock_khz = 0;
  int memory_khz = 0;
  int bus_bits = 0;
  const std::pair<cudaDeviceAttr, int*> attributes[] = {
      {cudaDevAttrMultiProcessorCount, &sms},       {cudaDevAttrL2CacheSize, &l2},
      {cudaDevAttrClockRate, &clock_khz},           {cudaDevAttrMemoryClockRate, &memory_khz},
      {cudaDevAttrGlobalMemoryBusWidth, &bus_bits},
  };
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  for (const auto& [name, value] : attributes) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, name, device);
  }
  if (error != cudaSuccess) return cuda::cuda_failed("asking about", "a device", error);
  *info = {};
  static_assert(sizeof(info->name) >= sizeof(properties.name), "a device's name must fit");
  memcpy(info->name, properties.name, sizeof(properties.name));
  info->compute_capability = compute_capability(device);
  info->num_sms = sms;
  info->l2_bytes = l2;
  info->clock_hz = clock_khz > 0 ? int64_t{1000} * clock_khz : kNominalClockHz;
  // Two transfers a clock.
  const int64_t bandwidth = int64_t{2000} * memory_khz * (bus_bits / 8);
  info->memory_bandwidth = bandwidth > 0 ? bandwidth : kNominalBandwidth;
  return SPLITOP_OK;
}

// What was read of the devices, once: reading a name takes milliseconds.
struct Devices {
  std::mutex mutex;
  std::map<int32_t, splitop_cuda_device> known;
};

Devices& devices() {
  static Devices* const all = new Devices;  // for as long as anything may still ask
  return *all;
}

}  // namespace
}  // namespace splitop

splitop_cuda_state splitop_cuda_query(void) {
  // That it works can't change any more. What is missing may still come.
  static std::atomic<bool> ready{false};
  if (ready) return SPLITOP_CUDA_READY;
  const splitop_cuda_state state = splitop::query();
  if (state == SPLITOP_CUDA_READY) ready = true;
  return state;
}

int32_t splitop_cuda_built_version(void) { return CUDART_VERSION; }

int32_t splitop_cuda_driver_version(void) {
  int version = 0;
  return splitop::forget(cudaDriverGetVersion(&version)) == cudaSuccess ? version : 0;
}

int32_t splitop_cuda_num_devices(void) {
  int count = 0;
  return splitop::forget(cudaGetDeviceCount(&count)) == cudaSuccess ? count : 0;
}

splitop_status splitop_cuda_get_device(int32_t device, splitop_cuda_device* info) {
  if (info == nullptr || device < 0) return SPLITOP_INVALID_ARGUMENT;
  splitop::Devices& all = splitop::devices();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.known.find(device);
  if (found != all.known.end()) {
    *info = found->second;
    return SPLITOP_OK;
  }
  if (device >= splitop_cuda_num_devices()) return SPLITOP_UNSUPPORTED;
  const splitop_status status = splitop::read_device(device, info);
  if (status != SPLITOP_OK) return status;
  all.known[device] = *info;
  return SPLITOP_OK;
}
