// The dense chain for AVX2 and FMA.
#include "kernels/cpu/dense_chain_impl.h"

namespace splitop {

DenseChainTables dense_chain_tables_avx2() {
  return {&kKernels<float>, &kKernels<double>, &kKernels<bfloat16>, &kKernels<float16>};
}

}  // namespace splitop
