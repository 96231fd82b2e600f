// The multi-tensor update, on the CPU and on CUDA devices.
#include "splitop/multi_tensor_update.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/device_view.h"
#include "python/errors.h"
#include "python/numpy_view.h"
#include "python/threads.h"
#include "python/update_arguments.h"

namespace py = pybind11;

namespace splitop {
namespace {

using Objects = UpdateArguments::Objects;

void multi_tensor_update(const Objects& gradients, const Objects& variables,
                         const std::vector<Objects>& slots, const std::string& rule,
                         py::handle hyper, const std::vector<bool>& decayed, py::handle clips,
                         int num_threads) {
  UpdateArguments arguments(numpy_view, gradients, variables, slots, rule, hyper, decayed);
  if (!clips.is_none()) arguments.set_clips(clips);
  const splitop_executor executor = threads_executor(num_threads);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status = splitop_cpu_multi_tensor_update(&arguments.update(), &executor);
  }
  raise_unless_ok(status);
}

void cuda_multi_tensor_update(const Objects& gradients, const Objects& variables,
                              const std::vector<Objects>& slots, const std::string& rule,
                              py::handle hyper, const std::vector<bool>& decayed, py::handle clips,
                              int64_t stream) {
  require_cuda();
  const splitop_cuda_stream on_stream = cuda_stream(stream);
  UpdateArguments arguments(device_viewer(stream), gradients, variables, slots, rule, hyper,
                            decayed);
  if (!clips.is_none()) arguments.set_clips(clips);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status = splitop_cuda_multi_tensor_update(&arguments.update(), on_stream);
  }
  raise_unless_ok(status);
}

}  // namespace

void bind_multi_tensor_update(py::module_& module) {
  module.def("multi_tensor_update", &multi_tensor_update, py::arg("gradients"),
             py::arg("variables"), py::arg("slots"), py::kw_only(), py::arg("rule"),
             py::arg("hyper"), py::arg("decayed"), py::arg("clips") = py::none(),
             py::arg("num_threads") = 1,
             "Updates many variables from their gradients, in place.\n\n"
             "gradients, variables: NumPy arrays, in pairs of one shape; float32 or float64.\n"
             "slots: for each variable the arrays of its state, of its shape, or [rows] of a\n"
             "row-wise rule.\n"
             "rule: its name; hyper: its scalars (splitop/update_rule.h).\n"
             "decayed: for each variable whether weight decay applies to it.\n"
             "clips: [variables, 2], what each gradient is multiplied by, and to which magnitude\n"
             "it is then clipped; or None.\n"
             "Raises ValueError or TypeError, before anything is written, and\n"
             "NotImplementedError for gradients of 16 bits.");
}

void bind_cuda_multi_tensor_update(py::module_& module) {
  module.def("cuda_multi_tensor_update", &cuda_multi_tensor_update, py::arg("gradients"),
             py::arg("variables"), py::arg("slots"), py::kw_only(), py::arg("rule"),
             py::arg("hyper"), py::arg("decayed"), py::arg("clips") = py::none(),
             py::arg("stream") = 0,
             "multi_tensor_update on the current CUDA device, enqueued on a stream.\n\n"
             "All arrays are in the device's memory, as for cuda_dense_chain. Gradients of\n"
             "float32 variables may be bfloat16 or float16.");
}

}  // namespace splitop
