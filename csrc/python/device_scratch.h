// The scratch that a caller gives to a CUDA function.
#ifndef SPLITOP_PYTHON_DEVICE_SCRATCH_H_
#define SPLITOP_PYTHON_DEVICE_SCRATCH_H_

#include <pybind11/pybind11.h>

#include <cstddef>

#include "python/array_view.h"

namespace splitop {

// scratch: an array of bytes, or None. Raises ValueError where it is too small or not aligned.
ArrayView device_scratch(Arrays& arrays, pybind11::handle scratch, size_t needed);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DEVICE_SCRATCH_H_
