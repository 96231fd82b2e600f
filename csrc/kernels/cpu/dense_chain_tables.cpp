// Which instruction set's kernels are used.
#include "kernels/cpu/dense_chain_kernels.h"
#include "splitop/cpu.h"

namespace splitop {
namespace {

DenseChainTables tables() {
  switch (splitop_cpu_isa_in_use()) {
#ifdef SPLITOP_HAVE_AVX512
    case SPLITOP_ISA_AVX512:
      return dense_chain_tables_avx512();
#endif
#ifdef SPLITOP_HAVE_AVX2
    case SPLITOP_ISA_AVX2:
      return dense_chain_tables_avx2();
#endif
    default:
      return dense_chain_tables_baseline();
  }
}

}  // namespace

template <>
const DenseChainKernels<float>& dense_chain_kernels() {
  return *tables().float32;
}
template <>
const DenseChainKernels<double>& dense_chain_kernels() {
  return *tables().float64;
}
template <>
const DenseChainKernels<bfloat16>& dense_chain_kernels() {
  return *tables().bfloat16_tensors;
}
template <>
const DenseChainKernels<float16>& dense_chain_kernels() {
  return *tables().float16_tensors;
}

}  // namespace splitop
