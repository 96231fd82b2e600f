#include "kernels/cuda/dense_chain_impl.h"
#include "kernels/cuda/simt_product.h"

namespace splitop::cuda {

const DenseChainKernels& dense_chain_kernels_float64() {
  return dense_chain_kernels<SimtProduct, double, SmallTile>();
}

}  // namespace splitop::cuda
