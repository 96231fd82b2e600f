// What the ops on images, [batch, rows, columns, channels], have in common.
#ifndef SPLITOP_TF_IMAGE_OP_H_
#define SPLITOP_TF_IMAGE_OP_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tf/op_kernel.h"

namespace splitop {

class ImageOpKernel : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 protected:
  absl::Status Refused(absl::string_view expected, absl::string_view received) const {
    return absl::InvalidArgumentError(absl::StrCat("splitop: ", type_string(), ": \"", name(),
                                                   "\": ", expected, ". Received: ", received,
                                                   "."));
  }

  // Whether sizes or steps are of rows and columns alone: [1, rows, columns, 1], each at least 1.
  static bool AreOfImages(const std::vector<int64_t>& steps) {
    return steps.size() == 4 && steps[0] == 1 && steps[1] >= 1 && steps[2] >= 1 && steps[3] == 1;
  }
};

}  // namespace splitop

#endif  // SPLITOP_TF_IMAGE_OP_H_
