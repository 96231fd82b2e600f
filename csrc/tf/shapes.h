// Shapes that are known in part, and what is said of one that does not fit.
#ifndef SPLITOP_TF_SHAPES_H_
#define SPLITOP_TF_SHAPES_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace splitop {

constexpr int64_t kUnknownDim = -1;

// "[64, ?]"
template <typename Dims>
std::string FormatDims(const Dims& dims) {
  std::string text = "[";
  for (const int64_t dim : dims) {
    absl::StrAppend(&text, text.size() > 1 ? ", " : "");
    absl::StrAppend(&text, dim == kUnknownDim ? "?" : absl::StrCat(dim));
  }
  return text + "]";
}

inline std::string FormatShape(const tensorflow::PartialTensorShape& shape) {
  return shape.unknown_rank() ? "an unknown shape" : FormatDims(shape.dim_sizes());
}

// Takes over what `shape` tells of the expected dims; false if they contradict each other.
// Nothing is taken over from a shape that does not fit.
inline bool MergeShape(const tensorflow::PartialTensorShape& shape,
                       std::initializer_list<int64_t*> expected) {
  if (shape.unknown_rank()) return true;
  if (shape.dims() != static_cast<int>(expected.size())) return false;
  int d = 0;
  for (const int64_t* dim : expected) {
    const int64_t size = shape.dim_size(d++);
    if (size != kUnknownDim && *dim != kUnknownDim && size != *dim) return false;
  }
  d = 0;
  for (int64_t* dim : expected) {
    const int64_t size = shape.dim_size(d++);
    if (size != kUnknownDim) *dim = size;
  }
  return true;
}

// What an error says of a shape.
struct ShapeDescription {
  std::string error;  // its class
  std::string what;   // whose shape it is
  std::string why;    // what its dims are
};

// Checks one shape and learns from it. `describe` is called for an error only.
template <typename Describe>
absl::Status ExpectShape(const tensorflow::PartialTensorShape& shape,
                         std::initializer_list<int64_t*> expected, Describe describe) {
  if (MergeShape(shape, expected)) return absl::OkStatus();
  const ShapeDescription text = describe();
  std::vector<int64_t> dims;
  for (const int64_t* dim : expected) dims.push_back(*dim);
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: ", text.error, ": ", text.what, " must have shape ", FormatDims(dims),
                   " (", text.why, "). Received: ", FormatShape(shape), "."));
}

// Checks the shape of what is laid out as its variable.
inline absl::Status ExpectSameShape(const tensorflow::PartialTensorShape& received,
                                    const tensorflow::PartialTensorShape& variable,
                                    absl::string_view what) {
  if (variable.IsCompatibleWith(received)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: SplitError: ", what, " must have shape ", FormatShape(variable),
                   " (the shape of its variable). Received: ", FormatShape(received), "."));
}

}  // namespace splitop

#endif  // SPLITOP_TF_SHAPES_H_
