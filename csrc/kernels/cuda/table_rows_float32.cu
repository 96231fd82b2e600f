#include "kernels/cuda/table_rows_kernel.h"

namespace splitop::cuda {

const TableKernels& table_kernels_float32() { return table_kernels<float>(); }

}  // namespace splitop::cuda
