// The dense chain on the CPU.
#include "splitop/dense_chain.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/dense_chain_arguments.h"
#include "python/errors.h"
#include "python/numpy_view.h"
#include "python/scratch.h"
#include "python/threads.h"

namespace py = pybind11;

namespace splitop {
namespace {

std::optional<py::array> dense_chain(py::handle seed, const std::vector<DenseLayer>& layers,
                                     const std::string& rule, py::handle hyper, bool input_gradient,
                                     py::handle clips, bool forward, int num_threads) {
  DenseChainArguments arguments(numpy_view, seed, layers, rule, hyper, input_gradient, forward);
  if (!clips.is_none()) arguments.set_clips(clips);
  const splitop_executor executor = threads_executor(num_threads);
  std::optional<py::array> result;
  if (input_gradient) {
    result = py::array(py::dtype(arguments.dtype()), arguments.input_gradient_shape());
    arguments.chain().input_gradient = result->mutable_data();
  }
  raise_unless_ok(run_with_scratch<splitop_cpu_dense_chain_scratch_bytes, splitop_cpu_dense_chain>(
      arguments.chain(), executor));
  return result;
}

}  // namespace

void bind_dense_chain(py::module_& module) {
  module.def("dense_chain", &dense_chain, py::arg("seed"), py::arg("layers"), py::kw_only(),
             py::arg("rule"), py::arg("hyper"), py::arg("input_gradient") = false,
             py::arg("clips") = py::none(), py::arg("forward") = false, py::arg("num_threads") = 1,
             "Seeded backward pass and update of a chain of dense layers, in place.\n\n"
             "seed: dL/dy of the first layer, [batch, outputs]: float32, float64, bfloat16 or\n"
             "float16.\n"
             "layers: Layer objects from the top (next to the intermediate vector) down, of\n"
             "NumPy arrays.\n"
             "rule: its name; hyper: its scalars (splitop/update_rule.h).\n"
             "clips: for each kernel, then for each bias, what its gradient is multiplied by, and\n"
             "to which magnitude it is then clipped, [variables, 2]; or None.\n"
             "forward: whether the forward pass is run first, from the last layer's x; the other\n"
             "x and all references are not read then. Not in mixed precision.\n"
             "Returns dL/dx of the last layer, [batch, inputs], if input_gradient, else None.\n"
             "Raises ValueError or TypeError, before anything is written.");
}

}  // namespace splitop
