// launch() of csrc/kernels/cuda/launch.h, on the CPU: when it returns, the kernel has run.
#ifndef SPLITOP_EMULATED_LAUNCH_H_
#define SPLITOP_EMULATED_LAUNCH_H_

#include <cuda_runtime.h>
#include <stddef.h>

#pragma GCC visibility push(hidden)

namespace splitop {

namespace emulation {

struct Launch {
  const void* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  const char* description;  // for messages
  void (*run_thread)(const void* kernel_call);
  const void* kernel_call;
};

cudaError_t run(const Launch& launch);

}  // namespace emulation

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t, const Arguments&... arguments) {
  const auto call = [&] { kernel(arguments...); };
  const auto run_thread = [](const void* kernel_call) {
    (*static_cast<decltype(&call)>(kernel_call))();
  };
  return emulation::run({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                         __PRETTY_FUNCTION__, run_thread, &call});
}

}  // namespace splitop

#pragma GCC visibility pop

#endif  // SPLITOP_EMULATED_LAUNCH_H_
