#include "kernels/cuda/table_rows_kernel.h"

namespace splitop::cuda {

const TableKernels& table_kernels_float64() { return table_kernels<double>(); }

}  // namespace splitop::cuda
