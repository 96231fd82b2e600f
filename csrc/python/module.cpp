// splitop.lib._kernels: the C ABI on arrays, without TensorFlow.
#include "python/bindings.h"

PYBIND11_MODULE(_kernels, module) {
  module.doc() =
      "The kernels of splitop without TensorFlow: the CPU's on NumPy arrays, CUDA's on any arrays "
      "with DLPack or __cuda_array_interface__.";
  splitop::bind_isas(module);
  splitop::bind_layer(module);
  splitop::bind_dense_chain(module);
  splitop::bind_dense_sweep(module);
  splitop::bind_multi_tensor_update(module);
  splitop::bind_batched_product(module);
  splitop::bind_images(module);
  splitop::bind_table_lookup(module);
  splitop::bind_table_update(module);
  splitop::bind_cuda_state(module);
  splitop::bind_cuda_plan(module);
  splitop::bind_cuda_dense_chain(module);
  splitop::bind_cuda_multi_tensor_update(module);
  splitop::bind_cuda_table_update(module);
}
