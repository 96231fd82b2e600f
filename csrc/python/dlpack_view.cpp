#include "python/dlpack_view.h"

#include <memory>

#include "python/device_memory.h"
#include "python/dlpack.h"

namespace py = pybind11;

namespace splitop {
namespace {

std::string dtype_name(const dlpack::Tensor& tensor) {
  const std::string bits = std::to_string(tensor.type_bits);
  const std::string lanes = tensor.type_lanes == 1 ? "" : "x" + std::to_string(tensor.type_lanes);
  switch (tensor.type_code) {
    case dlpack::kInt:
      return "int" + bits + lanes;
    case dlpack::kUint:
      return "uint" + bits + lanes;
    case dlpack::kFloat:
      return "float" + bits + lanes;
    case dlpack::kBfloat:
      return "bfloat" + bits + lanes;
    case dlpack::kComplex:
      return "complex" + bits + lanes;
    case dlpack::kBool:
      return "bool" + lanes;
    default:
      return "DLPack type " + std::to_string(tensor.type_code) + " of " + bits + " bits" + lanes;
  }
}

ArrayView to_view(const dlpack::Tensor& tensor) {
  ArrayView view;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = dtype_name(tensor);
  view.itemsize = (tensor.type_bits * tensor.type_lanes + 7) / 8;
  view.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides != nullptr) {
    for (int i = 0; i < tensor.ndim; ++i) {
      view.strides.push_back(tensor.strides[i] * view.itemsize);
    }
  }
  view.device = device_name(tensor.device_type, tensor.device_id);
  return view;
}

// Takes over what the capsule holds: the capsule's own destructor leaves a used one alone.
template <typename Managed>
std::shared_ptr<Managed> take(const py::object& capsule, const char* name, const char* used_name) {
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), name);
  if (pointer == nullptr || PyCapsule_SetName(capsule.ptr(), used_name) != 0) {
    throw py::error_already_set();
  }
  return std::shared_ptr<Managed>(static_cast<Managed*>(pointer), [](Managed* managed) {
    if (managed->deleter != nullptr) managed->deleter(managed);
  });
}

ArrayView take_versioned(const py::object& capsule, const std::string& name) {
  auto managed =
      take<dlpack::VersionedTensor>(capsule, "dltensor_versioned", "used_dltensor_versioned");
  if (managed->major != dlpack::kMajor) {
    throw py::value_error(name + " must have DLPack version " + std::to_string(dlpack::kMajor) +
                          ". Received: version " + std::to_string(managed->major));
  }
  ArrayView view = to_view(managed->tensor);
  view.writeable = (managed->flags & dlpack::kReadOnly) == 0;
  view.owner = std::move(managed);
  return view;
}

ArrayView take_unversioned(const py::object& capsule) {
  auto managed = take<dlpack::ManagedTensor>(capsule, "dltensor", "used_dltensor");
  ArrayView view = to_view(managed->tensor);
  view.owner = std::move(managed);
  return view;
}

// DLPack's name for a stream: 0 would be ambiguous, the legacy default stream is 1.
py::object stream_argument(int64_t stream) {
  if constexpr (kDeviceMemoryIsHostMemory) return py::none();
  return py::int_(stream == 0 ? 1 : stream);
}

py::object export_capsule(py::handle object, int64_t stream) {
  const py::object method = object.attr("__dlpack__");
  const py::object on_stream = stream_argument(stream);
  try {
    return method(py::arg("stream") = on_stream,
                  py::arg("max_version") = py::make_tuple(dlpack::kMajor, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method(py::arg("stream") = on_stream);  // a library from before max_version
}

void require_device_memory(py::handle object, const std::string& name) {
  const auto device = object.attr("__dlpack_device__")().cast<py::tuple>();
  const auto type = py::int_(device[0]).cast<int32_t>();
  if (is_device_memory(type)) return;
  throw py::value_error(name + " must be in " + kDeviceMemory + ". Received: an array on " +
                        device_name(type, py::int_(device[1]).cast<int32_t>()));
}

}  // namespace

ArrayView dlpack_view(py::handle object, int64_t stream, const std::string& name) {
  try {
    require_device_memory(object, name);
    const py::object capsule = export_capsule(object, stream);
    return PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") ? take_versioned(capsule, name)
                                                                  : take_unversioned(capsule);
  } catch (py::error_already_set& error) {
    const std::string message = name + " can't be read through DLPack. Received: " + error.what();
    py::raise_from(error, PyExc_ValueError, message.c_str());
    throw py::error_already_set();
  }
}

}  // namespace splitop
