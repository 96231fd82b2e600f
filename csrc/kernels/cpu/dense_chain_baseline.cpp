// The dense chain for the compiler's default instruction set.
#include "kernels/cpu/dense_chain_impl.h"

namespace splitop {

DenseChainTables dense_chain_tables_baseline() {
  return {&kKernels<float>, &kKernels<double>, &kKernels<bfloat16>, &kKernels<float16>};
}

}  // namespace splitop
