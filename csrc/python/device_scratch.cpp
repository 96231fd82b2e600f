#include "python/device_scratch.h"

#include <cstdint>
#include <string>

namespace py = pybind11;

namespace splitop {
namespace {

constexpr size_t kDeviceAlignment = 256;

}  // namespace

ArrayView device_scratch(Arrays& arrays, py::handle scratch, size_t needed) {
  ArrayView view;
  view.shape = {0};
  if (!scratch.is_none()) {
    view = arrays.view(scratch, "scratch");
    arrays.output(view, "uint8", {view.size()}, "scratch");
  }
  if (static_cast<size_t>(view.size()) < needed) {
    throw py::value_error("scratch must have at least " + std::to_string(needed) +
                          " bytes. Received: " + std::to_string(view.size()));
  }
  if (reinterpret_cast<std::uintptr_t>(view.data) % kDeviceAlignment != 0) {
    throw py::value_error("scratch must be aligned to " + std::to_string(kDeviceAlignment) +
                          " bytes. Received: an array that is not");
  }
  return view;
}

}  // namespace splitop
