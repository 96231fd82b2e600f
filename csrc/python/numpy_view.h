// NumPy arrays.
#ifndef SPLITOP_PYTHON_NUMPY_VIEW_H_
#define SPLITOP_PYTHON_NUMPY_VIEW_H_

#include <pybind11/pybind11.h>

#include <string>

#include "python/array_view.h"

namespace splitop {

ArrayView numpy_view(pybind11::handle object, const std::string& name);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_NUMPY_VIEW_H_
