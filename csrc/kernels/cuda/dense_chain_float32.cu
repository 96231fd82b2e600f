#include "kernels/cuda/dense_chain_impl.h"
#include "kernels/cuda/simt_product.h"

namespace splitop::cuda {

const DenseChainKernels& dense_chain_kernels_float32() {
  return dense_chain_kernels<SimtProduct, float, LargeTile>();
}

}  // namespace splitop::cuda
