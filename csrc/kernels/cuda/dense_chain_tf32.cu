#include "kernels/cuda/dense_chain_impl.h"
#include "kernels/cuda/tensor_core_product.h"

namespace splitop::cuda {

const DenseChainKernels& dense_chain_kernels_tf32() {
  return dense_chain_kernels<TensorCoreProduct, float, LargeTile>();
}

}  // namespace splitop::cuda
