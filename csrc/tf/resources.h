// The resource inputs of an op: its variables, then the slots of each.
#ifndef SPLITOP_TF_RESOURCES_H_
#define SPLITOP_TF_RESOURCES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"

namespace splitop {

struct Resources {
  int num_variables = 0;
  int slots_each = 0;   // for every variable
  int first_input = 0;  // place of the first among the op's inputs; the rest follow
  tensorflow::DataType dtype = tensorflow::DT_INVALID;  // of all of them
  const char* dtype_of = "";                            // "the seed is": whose type that is, too
  std::vector<std::string> descriptions;  // 'kernel "d/kernel"', 'slot 1 of kernel "d/kernel"'

  int size() const { return static_cast<int>(descriptions.size()); }
  int Input(int resource) const { return first_input + resource; }
  int end_input() const { return Input(size()); }  // place of the input after them

  // A variable has the same place among the resources.
  int Slot(int variable, int slot) const { return num_variables + variable * slots_each + slot; }

  absl::Status CheckDtype(int resource, tensorflow::DataType received) const {
    if (received == dtype) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: VariableListError: ", descriptions[resource],
                     " must be a variable of ", tensorflow::DataTypeString(dtype), ", as ",
                     dtype_of, ". Received: ", tensorflow::DataTypeString(received), "."));
  }
};

// variables: their descriptions.
inline Resources MakeResources(std::vector<std::string> variables, int slots_each) {
  Resources resources;
  resources.num_variables = static_cast<int>(variables.size());
  resources.slots_each = slots_each;
  resources.descriptions = std::move(variables);
  for (int v = 0; v < resources.num_variables; ++v) {
    for (int s = 0; s < slots_each; ++s) {
      resources.descriptions.push_back(absl::StrCat("slot ", s, " of ", resources.descriptions[v]));
    }
  }
  return resources;
}

}  // namespace splitop

#endif  // SPLITOP_TF_RESOURCES_H_
