#include "python/dense_layer.h"

#include <pybind11/stl.h>

#include "python/bindings.h"

namespace py = pybind11;

namespace splitop {

void bind_layer(py::module_& module) {
  using Objects = std::vector<py::object>;
  py::class_<DenseLayer>(
      module, "Layer",
      "A dense layer y = activation(x @ kernel + bias).\n\n"
      "x: [batch, inputs]. kernel: [inputs, outputs]. bias: [outputs] or None.\n"
      "kernel_slots, bias_slots: the optimizer's state, of the variable's shape.\n"
      "reference: [batch, outputs], what the activation's gradient reads: its\n"
      "output y, but its input for leaky_relu, softplus, silu and gelu; None where\n"
      "linear.\n"
      "kernel_copy: mixed precision only: the kernel in x's dtype, as the forward pass\n"
      "has read it; needed where dL/dx is computed.\n"
      "kernel_gradient: [inputs, outputs], the kernel's gradient where dense_sweep has kept it,\n"
      "in the kernel's dtype; None: it is worked out. CPU only.\n"
      "Arrays are contiguous. All have one dtype; in mixed precision kernel, bias and slots\n"
      "are float32, the others bfloat16 or float16. Kernel, bias and slots are updated in place.",
      py::module_local())  // two builds of this module may be loaded at once
      .def(py::init<py::object, py::object, Objects, py::object, Objects, std::string, double,
                    py::object, bool, bool, py::object, py::object>(),
           py::arg("x"), py::arg("kernel"), py::arg("kernel_slots") = Objects(), py::kw_only(),
           py::arg("bias") = py::none(), py::arg("bias_slots") = Objects(),
           py::arg("activation") = "linear", py::arg("alpha") = 0.0,
           py::arg("reference") = py::none(), py::arg("kernel_decayed") = false,
           py::arg("bias_decayed") = false, py::arg("kernel_copy") = py::none(),
           py::arg("kernel_gradient") = py::none());
}

}  // namespace splitop
