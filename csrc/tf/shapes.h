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

// Whether a size may be the expected one.
inline bool MayBe(int64_t expected, int64_t size) {
  return expected == kUnknownDim || expected == size;
}

// A variable of more dimensions as the matrix that it is in memory: the first of them have `rows`
// elements. Unknown where that is not known; the shape as it is where it does not split so.
inline tensorflow::PartialTensorShape AsMatrix(const tensorflow::PartialTensorShape& shape,
                                               int64_t rows, int64_t columns) {
  if (shape.unknown_rank() || shape.dims() <= 2) return shape;
  if (!shape.IsFullyDefined() || rows == kUnknownDim) return tensorflow::PartialTensorShape();
  int64_t first = 1;
  for (int split = 1; split < shape.dims(); ++split) {
    first *= shape.dim_size(split - 1);
    int64_t last = 1;
    for (int d = split; d < shape.dims(); ++d) last *= shape.dim_size(d);
    if (first == rows && MayBe(columns, last)) return tensorflow::PartialTensorShape({first, last});
  }
  return shape;
}

// A variable of any rank as the vector that it is in memory, if it has that many elements.
inline tensorflow::PartialTensorShape AsVector(const tensorflow::PartialTensorShape& shape,
                                               int64_t elements) {
  if (shape.unknown_rank() || shape.dims() == 1) return shape;
  if (!shape.IsFullyDefined()) return tensorflow::PartialTensorShape();
  if (!MayBe(elements, shape.num_elements())) return shape;
  return tensorflow::PartialTensorShape({shape.num_elements()});
}

// One element for each row of a variable, whose rows are under its first dimension.
inline tensorflow::PartialTensorShape RowsShape(const tensorflow::PartialTensorShape& variable) {
  if (variable.unknown_rank() || variable.dims() <= 1) return variable;
  return tensorflow::PartialTensorShape({variable.dim_size(0)});
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

// Checks the shape of what goes with a variable. why: what the expected shape is.
inline absl::Status ExpectShapeOf(const tensorflow::PartialTensorShape& received,
                                  const tensorflow::PartialTensorShape& expected,
                                  absl::string_view what, absl::string_view why) {
  if (expected.IsCompatibleWith(received)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("splitop: SplitError: ", what, " must have shape ",
                                                 FormatShape(expected), " (", why,
                                                 "). Received: ", FormatShape(received), "."));
}

// The same for what is laid out as its variable.
inline absl::Status ExpectSameShape(const tensorflow::PartialTensorShape& received,
                                    const tensorflow::PartialTensorShape& variable,
                                    absl::string_view what) {
  return ExpectShapeOf(received, variable, what, "the shape of its variable");
}

}  // namespace splitop

#endif  // SPLITOP_TF_SHAPES_H_
