// What the C ABI and CUDA refuse, as Python exceptions.
#ifndef SPLITOP_PYTHON_ERRORS_H_
#define SPLITOP_PYTHON_ERRORS_H_

#include "splitop/status.h"

namespace splitop {

// Raises ValueError, NotImplementedError or RuntimeError unless the status is SPLITOP_OK.
void raise_unless_ok(splitop_status status);

// Raises RuntimeError with the reason where CUDA can't be used.
void require_cuda();

}  // namespace splitop

#endif  // SPLITOP_PYTHON_ERRORS_H_
