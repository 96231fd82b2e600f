#include "python/numpy_view.h"

#include <pybind11/numpy.h>

namespace py = pybind11;

namespace splitop {

ArrayView numpy_view(py::handle object, const std::string& name) {
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(name +
                         " must be a NumPy array. Received: " + Py_TYPE(object.ptr())->tp_name);
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  ArrayView view;
  view.data = const_cast<void*>(array.data());
  view.dtype = py::str(array.dtype());  // types that NumPy does not know, such as bfloat16, too
  view.itemsize = array.itemsize();
  view.shape.assign(array.shape(), array.shape() + array.ndim());
  view.strides.assign(array.strides(), array.strides() + array.ndim());
  view.writeable = array.writeable();
  view.device = "cpu";
  return view;
}

}  // namespace splitop
