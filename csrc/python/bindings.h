// What each file of this folder adds to the module.
#ifndef SPLITOP_PYTHON_BINDINGS_H_
#define SPLITOP_PYTHON_BINDINGS_H_

#include <pybind11/pybind11.h>

namespace splitop {

void bind_isas(pybind11::module_& module);
void bind_layer(pybind11::module_& module);
void bind_dense_chain(pybind11::module_& module);
void bind_dense_sweep(pybind11::module_& module);
void bind_multi_tensor_update(pybind11::module_& module);
void bind_batched_product(pybind11::module_& module);
void bind_images(pybind11::module_& module);
void bind_table_lookup(pybind11::module_& module);
void bind_table_update(pybind11::module_& module);
void bind_cuda_state(pybind11::module_& module);
void bind_cuda_plan(pybind11::module_& module);
void bind_cuda_dense_chain(pybind11::module_& module);
void bind_cuda_multi_tensor_update(pybind11::module_& module);
void bind_cuda_table_update(pybind11::module_& module);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_BINDINGS_H_
