// Arrays in the device's memory, by whichever protocol they have.
#ifndef SPLITOP_PYTHON_DEVICE_VIEW_H_
#define SPLITOP_PYTHON_DEVICE_VIEW_H_

#include <cstdint>

#include "python/array_view.h"
#include "splitop/cuda.h"

namespace splitop {

// What the work is enqueued on, from its handle as Python has it; 0: the default stream.
splitop_cuda_stream cuda_stream(int64_t handle);

// Views of arrays that work on that stream may use.
Arrays::Viewer device_viewer(int64_t stream);

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DEVICE_VIEW_H_
