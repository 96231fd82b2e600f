// Names in an op's attributes, as the enumerators of the C ABI.
#ifndef SPLITOP_TF_NAMES_H_
#define SPLITOP_TF_NAMES_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/activation.h"
#include "splitop/dtype.h"
#include "splitop/update_rule.h"
#include "tensorflow/core/framework/types.h"

namespace splitop {

template <typename Enum>
absl::Status ParseName(std::string_view what, std::string_view name, int count,
                       const char* (*name_of)(Enum), Enum* value) {
  for (int i = 0; i < count; ++i) {
    *value = static_cast<Enum>(i);
    if (name == name_of(*value)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: unknown ", what, ". Received: \"", name, "\"."));
}

// Whether a list has as many entries as it should.
inline absl::Status CheckCount(std::string_view op, std::string_view what, int64_t expected,
                               int64_t received) {
  if (expected == received) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: ", op, " takes ", expected, " ", what, ". Received: ", received, "."));
}

inline absl::Status ParseActivation(std::string_view name, splitop_activation* activation) {
  return ParseName("activation", name, SPLITOP_NUM_ACTIVATIONS, splitop_activation_name,
                   activation);
}

inline absl::Status ParseRule(std::string_view name, splitop_update_rule* rule) {
  return ParseName("update rule", name, SPLITOP_NUM_UPDATE_RULES, splitop_update_rule_name, rule);
}

inline splitop_dtype ToSplitopDtype(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE:
      return SPLITOP_FLOAT64;
    case tensorflow::DT_BFLOAT16:
      return SPLITOP_BFLOAT16;
    case tensorflow::DT_HALF:
      return SPLITOP_FLOAT16;
    default:
      return SPLITOP_FLOAT32;
  }
}

}  // namespace splitop

#endif  // SPLITOP_TF_NAMES_H_
