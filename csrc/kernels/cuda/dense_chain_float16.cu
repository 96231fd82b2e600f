#include "kernels/cuda/dense_chain_impl.h"
#include "kernels/cuda/tensor_core_product.h"

namespace splitop::cuda {

const DenseChainKernels& dense_chain_kernels_float16() {
  return dense_chain_kernels<TensorCoreProduct, float16, LargeTile>();
}

}  // namespace splitop::cuda
