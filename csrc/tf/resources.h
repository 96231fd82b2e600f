// The resource inputs of an op: its variables, then the slots of each.
#ifndef SPLITOP_TF_RESOURCES_H_
#define SPLITOP_TF_RESOURCES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"

namespace splitop {

struct Resources {
  int first_input = 0;  // place of the first among the op's inputs; the rest follow
  tensorflow::DataType dtype = tensorflow::DT_INVALID;  // of all of them
  const char* dtype_of = "";                            // "the seed is": whose type that is, too
  std::vector<std::string> descriptions;  // 'kernel "d/kernel"', 'slot 1 of kernel "d/kernel"'

  int size() const { return static_cast<int>(descriptions.size()); }
  int Input(int resource) const { return first_input + resource; }

  absl::Status CheckDtype(int resource, tensorflow::DataType received) const {
    if (received == dtype) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: VariableListError: ", descriptions[resource],
                     " must be a variable of ", tensorflow::DataTypeString(dtype), ", as ",
                     dtype_of, ". Received: ", tensorflow::DataTypeString(received), "."));
  }
};

// The descriptions of some variables, then those of their slots: `slots_each` for each variable.
inline std::vector<std::string> WithSlots(std::vector<std::string> variables, int slots_each) {
  const size_t num_variables = variables.size();
  for (size_t v = 0; v < num_variables; ++v) {
    for (int s = 0; s < slots_each; ++s) {
      variables.push_back(absl::StrCat("slot ", s, " of ", variables[v]));
    }
  }
  return variables;
}

}  // namespace splitop

#endif  // SPLITOP_TF_RESOURCES_H_
