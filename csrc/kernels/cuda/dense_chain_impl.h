// The table of one kind of product, for dense_chain_*.cu.
#ifndef SPLITOP_KERNELS_CUDA_DENSE_CHAIN_IMPL_H_
#define SPLITOP_KERNELS_CUDA_DENSE_CHAIN_IMPL_H_

#include "kernels/cuda/dense_chain_kernels.h"
#include "kernels/cuda/gradient_kernel.h"
#include "kernels/cuda/product_kernel.h"
#include "kernels/cuda/weight_update_kernel.h"

namespace splitop::cuda {

// Product: SimtProduct or TensorCoreProduct.
template <template <typename, typename, Layout> class Product, typename T, typename Large>
const DenseChainKernels& dense_chain_kernels() {
  static constexpr DenseChainKernels kTable = {
      enqueue_gradient<T>,
      enqueue_product<Product<T, Large, Layout::kDepthInner>,
                      Product<T, SmallTile, Layout::kDepthInner>>,
      enqueue_weight_update<Product<T, Large, Layout::kDepthOuter>,
                            Product<T, SmallTile, Layout::kDepthOuter>>};
  return kTable;
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_DENSE_CHAIN_IMPL_H_
