// Arrays of other libraries, through __cuda_array_interface__ (version 3 and before).
#ifndef SPLITOP_PYTHON_CUDA_ARRAY_INTERFACE_H_
#define SPLITOP_PYTHON_CUDA_ARRAY_INTERFACE_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "python/array_view.h"

namespace splitop {

ArrayView cuda_array_interface_view(pybind11::handle object, int64_t stream,
                                    const std::string& name);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_CUDA_ARRAY_INTERFACE_H_
