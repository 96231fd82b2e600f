// The emulated CUDA runtime, as the emulated launch sees it.
#ifndef SPLITOP_EMULATION_RUNTIME_H_
#define SPLITOP_EMULATION_RUNTIME_H_

#include <cuda_runtime.h>
#include <stddef.h>

namespace splitop::emulation {

// What the real runtime answers to a launch of this shape.
cudaError_t check_launch(const void* kernel, const dim3& grid, const dim3& block,
                         size_t shared_bytes);

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_RUNTIME_H_
