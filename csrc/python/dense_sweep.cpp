// The dense sweep and the squared norms of tensors, on the CPU.
#include "splitop/dense_sweep.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "python/bindings.h"
#include "python/dense_chain_arguments.h"
#include "python/dtypes.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/numpy_view.h"
#include "python/scratch.h"
#include "python/threads.h"

namespace py = pybind11;

namespace splitop {
namespace {

using Swept = std::tuple<std::vector<py::array>, std::optional<py::array>, py::array>;

// Where the kernels' gradients go; NULL for None.
std::vector<void*> kept_gradients(const std::vector<py::object>& given,
                                  const splitop_dense_chain& chain, Arrays* arrays) {
  if (static_cast<int32_t>(given.size()) != chain.num_layers) {
    throw py::value_error("kernel_gradients must have one entry a layer, " +
                          std::to_string(chain.num_layers) +
                          ". Received: " + std::to_string(given.size()));
  }
  std::vector<void*> kept;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    const splitop_dense_layer& layer = chain.layers[l];
    const std::string name = "kernel_gradients[" + std::to_string(l) + "]";
    kept.push_back(given[l].is_none()
                       ? nullptr
                       : arrays->output(given[l], splitop_dtype_name(chain.variable_dtype),
                                        {layer.inputs, layer.outputs}, name));
  }
  return kept;
}

Swept dense_sweep(const py::array& seed, const std::vector<DenseLayer>& layers,
                  const std::string& norms, bool input_gradient,
                  const std::optional<std::vector<py::object>>& kernel_gradients, int num_threads) {
  const py::dtype of_hyper = seed.itemsize() == 2 ? py::dtype("float32") : seed.dtype();
  const py::array hyper(of_hyper, std::vector<py::ssize_t>{splitop_num_hyper(SPLITOP_SGD)});
  DenseChainArguments arguments(numpy_view, seed, layers, "sgd", hyper, input_gradient);
  const splitop_dense_chain& chain = arguments.chain();
  const py::dtype dtype(arguments.dtype());
  splitop_dense_sweep sweep = {};
  sweep.dtype = chain.dtype;
  sweep.batch = chain.batch;
  sweep.num_layers = chain.num_layers;
  sweep.layers = chain.layers;
  sweep.seed = chain.seed;
  sweep.norms = from_name(norms, splitop_norms_name, SPLITOP_NUM_NORMS, "norms");
  std::vector<py::array> gradients;
  std::vector<void*> outputs;
  for (int32_t l = 0; l < chain.num_layers; ++l) {
    gradients.emplace_back(dtype, Shape{chain.batch, chain.layers[l].outputs});
    outputs.push_back(gradients.back().mutable_data());
  }
  sweep.gradients = outputs.data();
  std::optional<py::array> result;
  if (input_gradient) {
    result = py::array(dtype, arguments.input_gradient_shape());
    sweep.input_gradient = result->mutable_data();
  }
  py::array_t<double> squared_norms(Shape{2, chain.num_layers});
  sweep.squared_norms = squared_norms.mutable_data();
  std::vector<void*> kept;
  if (kernel_gradients.has_value()) {
    kept = kept_gradients(*kernel_gradients, chain, &arguments.arrays());
    sweep.kernel_gradients = kept.data();
  }
  const splitop_executor executor = threads_executor(num_threads);
  raise_unless_ok(run_with_scratch<splitop_cpu_dense_sweep_scratch_bytes, splitop_cpu_dense_sweep>(
      sweep, executor));
  return {gradients, result, squared_norms};
}

bool keeps_kernel_gradient(const std::string& dtype, int64_t batch, int64_t inputs,
                           int64_t outputs) {
  const splitop_dtype of_tensors =
      from_name(dtype, splitop_dtype_name, SPLITOP_NUM_DTYPES, "dtype");
  return splitop_keeps_kernel_gradient(of_tensors, batch, inputs, outputs) != 0;
}

py::array_t<double> squared_norms(const std::vector<py::object>& tensors, int num_threads) {
  Arrays arrays(numpy_view);
  std::vector<int64_t> counts;
  std::vector<const void*> inputs;
  splitop_squared_norms norms = {};
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string name = "tensors[" + std::to_string(i) + "]";
    const ArrayView view = arrays.view(tensors[i], name);
    const splitop_dtype dtype = dtype_of(view, {SPLITOP_FLOAT32, SPLITOP_FLOAT64}, name);
    if (i == 0) norms.dtype = dtype;
    inputs.push_back(arrays.input(view, splitop_dtype_name(norms.dtype), view.shape, name));
    counts.push_back(view.size());
  }
  py::array_t<double> result(static_cast<py::ssize_t>(tensors.size()));
  norms.num_tensors = static_cast<int32_t>(tensors.size());
  norms.counts = counts.data();
  norms.tensors = inputs.data();
  norms.squared_norms = result.mutable_data();
  const splitop_executor executor = threads_executor(num_threads);
  raise_unless_ok(
      run_with_scratch<splitop_cpu_squared_norms_scratch_bytes, splitop_cpu_squared_norms>(
          norms, executor));
  return result;
}

}  // namespace

void bind_dense_sweep(py::module_& module) {
  module.def("dense_sweep", &dense_sweep, py::arg("seed"), py::arg("layers"), py::kw_only(),
             py::arg("norms") = "exact", py::arg("input_gradient") = false,
             py::arg("kernel_gradients") = py::none(), py::arg("num_threads") = 1,
             "Seeded backward pass of a chain of dense layers, without the update.\n\n"
             "seed, layers: as for dense_chain, without slots; biases are not looked at.\n"
             "norms: 'none', 'bounds' or 'exact' (splitop/dense_sweep.h).\n"
             "kernel_gradients: with exact norms, for each layer an array that its kernel's\n"
             "gradient is written to, or None.\n"
             "Returns dL/dz of each layer; dL/dx of the last layer or None; and the squared norms\n"
             "of the gradients of the kernels, then of the biases, [2, layers].");
  module.def("keeps_kernel_gradient", &keeps_kernel_gradient, py::arg("dtype"), py::arg("batch"),
             py::arg("inputs"), py::arg("outputs"),
             "Whether a layer's gradient is worth keeping for its update, for tensors of a dtype.");
  module.def("squared_norms", &squared_norms, py::arg("tensors"), py::kw_only(),
             py::arg("num_threads") = 1,
             "The sum of the squares of each array, in double; all of float32 or all of float64.");
}

}  // namespace splitop
