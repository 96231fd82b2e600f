#include "python/device_view.h"

#include <string>

#include "python/cuda_array_interface.h"
#include "python/device_memory.h"
#include "python/dlpack_view.h"
#include "python/numpy_view.h"

namespace py = pybind11;

namespace splitop {
namespace {

ArrayView device_view(py::handle object, int64_t stream, const std::string& name) {
  // NumPy's own DLPack leaves out bfloat16 and read-only arrays.
  if (kDeviceMemoryIsHostMemory && py::hasattr(object, "__array_interface__")) {
    return numpy_view(object, name);
  }
  // First, because it names the device and orders the streams.
  if (py::hasattr(object, "__dlpack__")) return dlpack_view(object, stream, name);
  if (py::hasattr(object, "__cuda_array_interface__")) {
    return cuda_array_interface_view(object, stream, name);
  }
  throw py::type_error(name +
                       " must be an array with __dlpack__ or __cuda_array_interface__. Received: " +
                       Py_TYPE(object.ptr())->tp_name);
}

}  // namespace

splitop_cuda_stream cuda_stream(int64_t handle) {
  if (handle < 0) {
    throw py::value_error("stream must be a stream's handle, or 0. Received: " +
                          std::to_string(handle));
  }
  return reinterpret_cast<splitop_cuda_stream>(static_cast<std::uintptr_t>(handle));
}

Arrays::Viewer device_viewer(int64_t stream) {
  return [stream](py::handle object, const std::string& name) {
    return device_view(object, stream, name);
  };
}

}  // namespace splitop
