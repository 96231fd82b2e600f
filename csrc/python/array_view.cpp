#include "python/array_view.h"

namespace py = pybind11;

namespace splitop {
namespace {

void require(const ArrayView& array, const std::string& dtype, const Shape& shape,
             const std::string& name) {
  if (array.dtype != dtype) {
    throw py::type_error(name + " must have dtype " + dtype + ". Received: " + array.dtype);
  }
  if (array.shape != shape) {
    throw py::value_error(name + " must have shape " + to_string(shape) +
                          ". Received: " + to_string(array.shape));
  }
  if (!array.contiguous()) {
    throw py::value_error(name + " must be contiguous in row-major order. Received: strides " +
                          to_string(array.strides));
  }
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

int64_t ArrayView::size() const {
  int64_t size = 1;
  for (const int64_t extent : shape) size *= extent;
  return size;
}

bool ArrayView::contiguous() const {
  if (strides.empty() || size() == 0) return true;
  int64_t expected = itemsize;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

ArrayView Arrays::view(py::handle object, const std::string& name) {
  ArrayView array = viewer_(object, name);
  owners_.push_back(array.owner);
  if (device_.empty()) device_ = array.device;
  if (!array.device.empty() && array.device != device_) {
    throw py::value_error(name + " must be on " + device_ +
                          ", as the arrays before it. Received: " + array.device);
  }
  return array;
}

const void* Arrays::input(py::handle object, const std::string& dtype, const Shape& shape,
                          const std::string& name) {
  return input(view(object, name), dtype, shape, name);
}

const void* Arrays::input(const ArrayView& array, const std::string& dtype, const Shape& shape,
                          const std::string& name) {
  require(array, dtype, shape, name);
  return array.data;
}

void* Arrays::output(py::handle object, const std::string& dtype, const Shape& shape,
                     const std::string& name) {
  return output(view(object, name), dtype, shape, name);
}

void* Arrays::output(const ArrayView& array, const std::string& dtype, const Shape& shape,
                     const std::string& name) {
  require(array, dtype, shape, name);
  if (!array.writeable) {
    throw py::value_error(name + " must be writeable. Received: a read-only array");
  }
  return array.data;
}

}  // namespace splitop
