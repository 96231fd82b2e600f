// Ids in a tensor of either type, and what is said of those that are out of range.
#ifndef SPLITOP_TF_IDS_H_
#define SPLITOP_TF_IDS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"

namespace splitop {

template <typename Tensor>
int64_t IndexAt(const Tensor& tensor, int64_t position) {
  return tensor.dtype() == tensorflow::DT_INT32
             ? static_cast<const int32_t*>(tensor.data())[position]
             : static_cast<const int64_t*>(tensor.data())[position];
}

inline absl::Status IdOutOfRange(const char* what, const std::string& table, int64_t end,
                                 int64_t received, int64_t position) {
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: SplitError: ", what, " of \"", table, "\" must be in [0, ", end, ")",
                   ". Received: ", received, " at position ", position, "."));
}

}  // namespace splitop

#endif  // SPLITOP_TF_IDS_H_
