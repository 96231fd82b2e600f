#include "python/cuda_array_interface.h"

#include <pybind11/stl.h>

#include <utility>

namespace py = pybind11;

namespace splitop {
namespace {

using Interface = py::dict;

py::object entry(const Interface& interface, const char* key) {
  return interface.contains(key) ? py::object(interface[key]) : py::none();
}

// "<f4": byte order, kind, bytes an element.
void read_type(const std::string& type, ArrayView* view) {
  view->dtype = type;
  if (type.size() < 3 || (type[0] != '<' && type[0] != '|')) return;
  const std::string bytes = type.substr(2);
  if (bytes.find_first_not_of("0123456789") != std::string::npos || bytes.size() > 4) return;
  view->itemsize = std::stoi(bytes);
  const std::string bits = std::to_string(8 * view->itemsize);
  if (type[1] == 'f') view->dtype = "float" + bits;
  if (type[1] == 'i') view->dtype = "int" + bits;
  if (type[1] == 'u') view->dtype = "uint" + bits;
}

// The protocol asks the consumer to wait for that stream; on the same one there is no need.
void check_stream(const py::object& received, int64_t stream, const std::string& name) {
  if (received.is_none()) return;
  const auto legacy = [](int64_t handle) { return handle == 0 ? 1 : handle; };
  const auto other = received.cast<int64_t>();
  if (legacy(other) == legacy(stream)) return;
  throw py::value_error(name + " must be used on its own stream, or have none. Received: stream " +
                        std::to_string(other) + ", and stream=" + std::to_string(stream));
}

}  // namespace

ArrayView cuda_array_interface_view(py::handle object, int64_t stream, const std::string& name) {
  const auto interface = object.attr("__cuda_array_interface__").cast<Interface>();
  if (!entry(interface, "mask").is_none()) {
    throw py::value_error(name + " must have no mask. Received: a masked array");
  }
  check_stream(entry(interface, "stream"), stream, name);
  ArrayView view;
  const auto [address, read_only] =
      entry(interface, "data").cast<std::pair<std::uintptr_t, bool>>();
  view.data = reinterpret_cast<void*>(address);
  view.writeable = !read_only;
  read_type(entry(interface, "typestr").cast<std::string>(), &view);
  view.shape = entry(interface, "shape").cast<Shape>();
  const py::object strides = entry(interface, "strides");
  if (!strides.is_none()) view.strides = strides.cast<Shape>();
  return view;
}

}  // namespace splitop
