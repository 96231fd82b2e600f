// The buffers of a custom call in the places of the op's inputs and outputs.
#ifndef SPLITOP_JIT_CALL_BUFFERS_H_
#define SPLITOP_JIT_CALL_BUFFERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tf/input_shapes.h"
#include "tf/resources.h"
#include "xla/ffi/api/ffi.h"

namespace splitop {

// What of a tensorflow::Tensor the arguments of the C functions are made from.
class CallBuffer {
 public:
  explicit CallBuffer(const xla::ffi::AnyBuffer& buffer) : buffer_(buffer) {}

  void* data() const { return buffer_.untyped_data(); }
  int dims() const { return static_cast<int>(buffer_.dimensions().size()); }
  int64_t dim_size(int dim) const { return buffer_.dimensions()[dim]; }
  int64_t NumElements() const { return static_cast<int64_t>(buffer_.element_count()); }

  // Of those that an op may have to tell apart.
  tensorflow::DataType dtype() const {
    switch (buffer_.element_type()) {
      case xla::ffi::S32:
        return tensorflow::DT_INT32;
      case xla::ffi::S64:
        return tensorflow::DT_INT64;
      default:
        return tensorflow::DT_INVALID;
    }
  }

  tensorflow::PartialTensorShape shape() const {
    const auto dims = buffer_.dimensions();
    return tensorflow::PartialTensorShape(absl::MakeConstSpan(dims.begin(), dims.size()));
  }

 private:
  xla::ffi::AnyBuffer buffer_;
};

// Arguments are the op's inputs, with the value of a resource in its place. Results are the op's
// outputs, then the new values of all resources if the op writes them, in the memory of the old.
class CallBuffers {
 public:
  explicit CallBuffers(const Resources& resources) : resources_(resources) {}

  absl::Status Read(const xla::ffi::RemainingArgs& args, const xla::ffi::RemainingRets& rets) {
    for (size_t i = 0; i < args.size(); ++i) {
      const auto buffer = args.get<xla::ffi::AnyBuffer>(i);
      if (!buffer.has_value()) return NoBuffer("argument", i);
      inputs_.emplace_back(*buffer);
    }
    for (size_t i = 0; i < rets.size(); ++i) {
      auto buffer = rets.get<xla::ffi::AnyBuffer>(i);
      if (!buffer.has_value()) return NoBuffer("result", i);
      outputs_.emplace_back(**buffer);
    }
    return absl::OkStatus();
  }

  // Whether what is written is where XLA was told it would be.
  absl::Status CheckAliases(int num_outputs) const {
    for (int r = 0; r < resources_.size(); ++r) {
      const CallBuffer& value = outputs_[num_outputs + r];
      if (value.NumElements() == 0 || value.data() == tensor(r)->data()) continue;
      return absl::InternalError(absl::StrCat("splitop: XLA has moved ", resources_.descriptions[r],
                                              " from where it is updated. Received: two buffers."));
    }
    return absl::OkStatus();
  }

  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  const CallBuffer& input(int index) const { return inputs_[index]; }
  const CallBuffer& output(int index) const { return outputs_[index]; }
  const CallBuffer* tensor(int resource) const { return &input(resources_.Input(resource)); }

  InputShapes shapes() const {
    InputShapes shapes;
    shapes.reserve(inputs_.size());
    for (const CallBuffer& input : inputs_) shapes.push_back(input.shape());
    return shapes;
  }

 private:
  static absl::Status NoBuffer(const char* what, size_t index) {
    return absl::InternalError(
        absl::StrCat("splitop: ", what, " ", index, " of a custom call must be a buffer."));
  }

  const Resources& resources_;
  std::vector<CallBuffer> inputs_;
  std::vector<CallBuffer> outputs_;
};

}  // namespace splitop

#endif  // SPLITOP_JIT_CALL_BUFFERS_H_
