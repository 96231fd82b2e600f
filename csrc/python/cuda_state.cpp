// Whether CUDA can be used here, and what there is.
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "python/bindings.h"
#include "python/device_memory.h"
#include "python/errors.h"
#include "splitop/cuda.h"

namespace py = pybind11;

namespace splitop {
namespace {

const char* state_name(splitop_cuda_state state) {
  switch (state) {
    case SPLITOP_CUDA_READY:
      return "ready";
    case SPLITOP_CUDA_NOT_BUILT:
      return "not_built";
    case SPLITOP_CUDA_NO_DRIVER:
      return "no_driver";
    case SPLITOP_CUDA_OLD_DRIVER:
      return "old_driver";
    case SPLITOP_CUDA_NO_DEVICE:
      return "no_device";
    case SPLITOP_CUDA_OLD_DEVICE:
      return "old_device";
    default:
      return "broken";
  }
}

std::vector<py::dict> devices() {
  std::vector<py::dict> found;
  for (int32_t i = 0; i < splitop_cuda_num_devices(); ++i) {
    splitop_cuda_device device;
    raise_unless_ok(splitop_cuda_get_device(i, &device));
    found.push_back(py::dict(
        py::arg("name") = device.name, py::arg("compute_capability") = device.compute_capability,
        py::arg("num_sms") = device.num_sms, py::arg("l2_bytes") = device.l2_bytes,
        py::arg("clock_hz") = device.clock_hz,
        py::arg("memory_bandwidth") = device.memory_bandwidth));
  }
  return found;
}

}  // namespace

void bind_cuda_state(py::module_& module) {
  module.attr("CUDA_EMULATED") = kDeviceMemoryIsHostMemory;
  module.def(
      "cuda_state", [] { return state_name(splitop_cuda_query()); },
      "'ready', 'not_built', 'no_driver', 'old_driver', 'no_device', 'old_device' or 'broken'.");
  module.def(
      "cuda_state_message", [] { return splitop_cuda_state_message(splitop_cuda_query()); },
      "The state in words.");
  module.def(
      "cuda_versions",
      [] { return std::pair(splitop_cuda_built_version(), splitop_cuda_driver_version()); },
      "The CUDA of the build, and the newest one that the driver runs: 1000 * major +\n"
      "10 * minor, or 0.");
  module.def("cuda_devices", &devices, "What is known of each device (splitop/cuda.h).");
  module.def(
      "has_cublas", [] { return splitop_cuda_has_cublas() != 0; }, "Whether cuBLAS was found.");
  module.def(
      "cuda_warm_up",
      [] {
        require_cuda();
        raise_unless_ok(splitop_cuda_warm_up());
      },
      "Creates what can't be created while a CUDA graph is captured.");
}

}  // namespace splitop
