// Where kernels go: first into the device's memory, then onto a stream.
#ifndef SPLITOP_KERNELS_CUDA_QUEUE_H_
#define SPLITOP_KERNELS_CUDA_QUEUE_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/failure.h"
#include "splitop/status.h"

namespace splitop::cuda {

struct Queue {
  cudaStream_t stream;
  bool loads_only;  // kernels are loaded, and nothing is launched
};
constexpr Queue kLoadsOnly{nullptr, true};

// Does the work twice: all that it launches is loaded before any of it is launched, so that a
// kernel that can't be loaded changes no variable.
template <typename Work>
splitop_status load_and_enqueue(cudaStream_t stream, const Work& work) {
  const splitop_status loaded = with_remark(work(kLoadsOnly), "no variable has changed");
  if (loaded != SPLITOP_OK) return loaded;
  return with_remark(work(Queue{stream, false}), "variables may have been updated in part");
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_QUEUE_H_
