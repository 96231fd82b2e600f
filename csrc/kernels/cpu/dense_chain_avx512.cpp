// The dense chain for AVX-512 (F, VL, DQ, BW).
#include "kernels/cpu/dense_chain_impl.h"

namespace splitop {

DenseChainTables dense_chain_tables_avx512() {
  return {&kKernels<float>, &kKernels<double>, &kKernels<bfloat16>, &kKernels<float16>};
}

}  // namespace splitop
