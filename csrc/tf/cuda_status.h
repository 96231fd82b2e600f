// What a CUDA function of the C ABI has returned, in TensorFlow's words.
#ifndef SPLITOP_TF_CUDA_STATUS_H_
#define SPLITOP_TF_CUDA_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "splitop/cuda.h"
#include "splitop/status.h"
#include "tf/op_kernel.h"

namespace splitop {

// `details` go with a refusal.
inline absl::Status CudaStatus(absl::string_view op, splitop_status status,
                               absl::string_view details) {
  switch (status) {
    case SPLITOP_OK:
      return absl::OkStatus();
    case SPLITOP_UNSUPPORTED: {
      const splitop_cuda_state state = splitop_cuda_query();
      const char* const cause = state == SPLITOP_CUDA_READY ? splitop_status_message(status)
                                                            : splitop_cuda_state_message(state);
      return KernelError(op, absl::StatusCode::kUnimplemented, absl::StrCat(cause, details));
    }
    default: {
      const char* const cause =
          status == SPLITOP_DEVICE_ERROR ? splitop_cuda_failure() : "arguments of the op";
      return KernelError(op, absl::StatusCode::kInternal,
                         absl::StrCat(splitop_status_message(status), ": ", cause));
    }
  }
}

}  // namespace splitop

#endif  // SPLITOP_TF_CUDA_STATUS_H_
