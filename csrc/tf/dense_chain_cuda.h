// The CUDA function behind Splitop>DenseChain.
#ifndef SPLITOP_TF_DENSE_CHAIN_CUDA_H_
#define SPLITOP_TF_DENSE_CHAIN_CUDA_H_

#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "splitop/cuda.h"
#include "splitop/dense_chain.h"
#include "splitop/status.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"

namespace splitop {

class DenseChainCuda {
 public:
  using Call = splitop_dense_chain;

  explicit DenseChainCuda(splitop_cuda_strategy strategy = SPLITOP_CUDA_AUTO) {
    options_.allow_tf32 = tensorflow::tensor_float_32_execution_enabled();
    options_.use_cublas = 1;
    options_.strategy = strategy;
  }

  size_t ScratchBytes(const Call& chain) const {
    return splitop_cuda_dense_chain_scratch_bytes(&chain, &options_);
  }

  splitop_status Run(const Call& chain, void* scratch, size_t bytes,
                     splitop_cuda_stream stream) const {
    return splitop_cuda_dense_chain(&chain, scratch, bytes, &options_, stream);
  }

  // For a message.
  std::string Details() const {
    return absl::StrCat(" (strategy \"", splitop_cuda_strategy_name(options_.strategy), "\")");
  }

 private:
  splitop_cuda_options options_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_CUDA_H_
