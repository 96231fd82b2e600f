#include "python/errors.h"

#include <pybind11/pybind11.h>

#include <string>

#include "splitop/cuda.h"

namespace splitop {

void raise_unless_ok(splitop_status status) {
  if (status == SPLITOP_OK) return;
  PyObject* type = status == SPLITOP_UNSUPPORTED    ? PyExc_NotImplementedError
                   : status == SPLITOP_DEVICE_ERROR ? PyExc_RuntimeError
                                                    : PyExc_ValueError;
  std::string message = splitop_status_message(status);
  if (status == SPLITOP_DEVICE_ERROR)
    message += std::string(". Received: ") + splitop_cuda_failure();
  PyErr_SetString(type, message.c_str());
  throw pybind11::error_already_set();
}

void require_cuda() {
  const splitop_cuda_state state = splitop_cuda_query();
  if (state == SPLITOP_CUDA_READY) return;
  const std::string message =
      std::string("CUDA can't be used. Received: ") + splitop_cuda_state_message(state);
  PyErr_SetString(PyExc_RuntimeError, message.c_str());
  throw pybind11::error_already_set();
}

}  // namespace splitop
