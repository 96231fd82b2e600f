// The dense chain on CUDA devices.
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/dense_chain_arguments.h"
#include "python/device_scratch.h"
#include "python/device_view.h"
#include "python/errors.h"
#include "python/names.h"
#include "splitop/cuda.h"
#include "splitop/dense_chain.h"

namespace py = pybind11;

namespace splitop {
namespace {

splitop_cuda_options to_options(bool allow_tf32, bool use_cublas, const std::string& strategy) {
  return {allow_tf32, use_cublas,
          from_name(strategy, splitop_cuda_strategy_name, SPLITOP_NUM_CUDA_STRATEGIES, "strategy")};
}

// The chain of a call; its input gradient is the caller's array, or None.
class Call : public DenseChainArguments {
 public:
  Call(int64_t stream, py::handle seed, const std::vector<DenseLayer>& layers,
       const std::string& rule, py::handle hyper, py::handle input_gradient)
      : DenseChainArguments(device_viewer(stream), seed, layers, rule, hyper,
                            !input_gradient.is_none()) {
    if (input_gradient.is_none()) return;
    chain().input_gradient =
        arrays().output(input_gradient, dtype(), input_gradient_shape(), "input_gradient");
  }
};

void cuda_dense_chain(py::handle seed, const std::vector<DenseLayer>& layers,
                      const std::string& rule, py::handle hyper, py::handle input_gradient,
                      py::handle scratch, int64_t stream, bool allow_tf32, bool use_cublas,
                      const std::string& strategy) {
  require_cuda();
  const splitop_cuda_stream on_stream = cuda_stream(stream);
  const splitop_cuda_options options = to_options(allow_tf32, use_cublas, strategy);
  Call call(stream, seed, layers, rule, hyper, input_gradient);
  const size_t needed = splitop_cuda_dense_chain_scratch_bytes(&call.chain(), &options);
  const ArrayView memory = device_scratch(call.arrays(), scratch, needed);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status =
        splitop_cuda_dense_chain(&call.chain(), memory.data, memory.size(), &options, on_stream);
  }
  raise_unless_ok(status);
}

size_t cuda_dense_chain_scratch_bytes(py::handle seed, const std::vector<DenseLayer>& layers,
                                      const std::string& rule, py::handle hyper,
                                      py::handle input_gradient, int64_t stream, bool allow_tf32,
                                      bool use_cublas, const std::string& strategy) {
  require_cuda();
  cuda_stream(stream);
  const splitop_cuda_options options = to_options(allow_tf32, use_cublas, strategy);
  Call call(stream, seed, layers, rule, hyper, input_gradient);
  return splitop_cuda_dense_chain_scratch_bytes(&call.chain(), &options);
}

}  // namespace

void bind_cuda_dense_chain(py::module_& module) {
  module.def(
      "cuda_dense_chain", &cuda_dense_chain, py::arg("seed"), py::arg("layers"), py::kw_only(),
      py::arg("rule"), py::arg("hyper"), py::arg("input_gradient") = py::none(),
      py::arg("scratch") = py::none(), py::arg("stream") = 0, py::arg("allow_tf32") = true,
      py::arg("use_cublas") = true, py::arg("strategy") = "auto",
      "dense_chain on the current CUDA device, enqueued on a stream.\n\n"
      "All arrays are in the device's memory, by DLPack or __cuda_array_interface__, and live\n"
      "until the work is done; arrays of other streams than this one are waited for.\n"
      "seed: dL/dy of the first layer: float32, float64, bfloat16 or float16.\n"
      "layers: Layer objects from the top (next to the intermediate vector) down.\n"
      "hyper: the rule's scalars, an array of the kernels' dtype.\n"
      "input_gradient: [batch, inputs] of the seed's dtype, for dL/dx of the last layer.\n"
      "scratch: uint8, aligned to 256 bytes, as long as cuda_dense_chain_scratch_bytes says.\n"
      "stream: the handle of a CUDA stream; 0: the default stream.\n"
      "allow_tf32, use_cublas, strategy: splitop/cuda.h.\n"
      "Raises ValueError, TypeError or NotImplementedError (not by that strategy), before\n"
      "anything is enqueued, and RuntimeError where CUDA can't be used or has failed.");
  module.def("cuda_dense_chain_scratch_bytes", &cuda_dense_chain_scratch_bytes, py::arg("seed"),
             py::arg("layers"), py::kw_only(), py::arg("rule"), py::arg("hyper"),
             py::arg("input_gradient") = py::none(), py::arg("stream") = 0,
             py::arg("allow_tf32") = true, py::arg("use_cublas") = true,
             py::arg("strategy") = "auto",
             "Length of the scratch that the same call of cuda_dense_chain needs.");
}

}  // namespace splitop
