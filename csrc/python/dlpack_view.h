// Arrays of other libraries, through __dlpack__.
#ifndef SPLITOP_PYTHON_DLPACK_VIEW_H_
#define SPLITOP_PYTHON_DLPACK_VIEW_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "python/array_view.h"

namespace splitop {

// The memory may be used by work on `stream` after this.
ArrayView dlpack_view(pybind11::handle object, int64_t stream, const std::string& name);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DLPACK_VIEW_H_
