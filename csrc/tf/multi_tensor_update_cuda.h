// The CUDA function behind Splitop>MultiTensorUpdate.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_CUDA_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_CUDA_H_

#include <cstddef>

#include "splitop/cuda.h"
#include "splitop/multi_tensor_update.h"
#include "splitop/status.h"

namespace splitop {

struct MultiTensorUpdateCuda {
  using Call = splitop_multi_tensor_update;

  static size_t ScratchBytes(const Call&) { return 0; }

  static splitop_status Run(const Call& update, void*, size_t, splitop_cuda_stream stream) {
    return splitop_cuda_multi_tensor_update(&update, stream);
  }

  static const char* Details() { return ""; }
};

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_CUDA_H_
