// The ops Splitop>HoldVariables and Splitop>CheckHeld: has a variable been written in between?
//
// TensorFlow gives a variable another buffer, or copies it, before a write while somebody else
// holds its tensor. So who holds it sees in the place of the buffer whether there was one, for the
// price of comparing pointers.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/mutex.h"
#include "tf/names.h"
#include "tf/op_kernel.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::Var;
using tensorflow::shape_inference::InferenceContext;

absl::Status UnknownShapes(InferenceContext* context) {
  for (int i = 0; i < context->num_outputs(); ++i) {
    context->set_output(i, context->UnknownShape());
  }
  return absl::OkStatus();
}

REGISTER_OP("Splitop>HoldVariables")
    .Input("variables: num_variables * resource")
    .Output("held: T")
    .Attr("num_variables: int >= 1")
    .Attr("T: list(type)")
    .SetIsStateful()
    .SetShapeFn(UnknownShapes)
    .Doc(R"doc(
The variables' own tensors, for Splitop>CheckHeld; nothing is copied.

variables: Handles of initialized variables.
held: The tensor of each variable. Of one that TensorFlow copies whenever it is read (tf.gather has
  read some of its rows before) an empty one: there a write is not seen.
num_variables: How many there are.
T: The type of each.
)doc");

REGISTER_OP("Splitop>CheckHeld")
    .Input("variables: num_variables * resource")
    .Input("held: T")
    .Attr("num_variables: int >= 1")
    .Attr("T: list(type)")
    .Attr("names: list(string)")
    .SetIsStateful()
    .SetShapeFn(UnknownShapes)
    .Doc(R"doc(
Fails if a variable was written since its tensor was held.

variables: Handles of the variables.
held: What Splitop>HoldVariables has returned for them.
num_variables: How many there are.
T: The type of each.
names: What a message calls each variable.
)doc");

absl::Status LookUp(OpKernelContext* context, int input,
                    tensorflow::core::RefCountPtr<Var>* variable) {
  return tensorflow::LookupResource(context, tensorflow::HandleFromInput(context, input), variable);
}

class HoldVariablesKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    for (int v = 0; v < context->num_inputs(); ++v) {
      tensorflow::core::RefCountPtr<Var> variable;
      TF_RETURN_IF_ERROR(LookUp(context, v, &variable));
      const tensorflow::tf_shared_lock lock(*variable->mu());
      const Tensor& value = *variable->tensor();
      if (value.dtype() != context->expected_output_dtype(v)) {
        return absl::InvalidArgumentError(
            absl::StrCat("splitop: VariableListError: variable ", v, " must be of ",
                         tensorflow::DataTypeString(context->expected_output_dtype(v)),
                         ". Received: ", tensorflow::DataTypeString(value.dtype()), "."));
      }
      // To hold it would make the next lookup of rows copy all of them.
      const bool copied = variable->copy_on_read_mode.load();
      context->set_output(v, copied ? Tensor(value.dtype(), {0}) : value);
    }
    return absl::OkStatus();
  }
};

class CheckHeldKernel final : public NoThrowKernel {
 public:
  explicit CheckHeldKernel(OpKernelConstruction* context) : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("names", &names_));
    OP_REQUIRES_OK(context, CheckCount("CheckHeld", "names", context->num_inputs() / 2,
                                       static_cast<int64_t>(names_.size())));
  }

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    const int num_variables = static_cast<int>(names_.size());
    for (int v = 0; v < num_variables; ++v) {
      tensorflow::core::RefCountPtr<Var> variable;
      TF_RETURN_IF_ERROR(LookUp(context, v, &variable));
      const Tensor& held = context->input(num_variables + v);
      if (held.NumElements() == 0) continue;
      const tensorflow::tf_shared_lock lock(*variable->mu());
      if (!variable->tensor()->SharesBufferWith(held)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "splitop: StashError: the weights have moved since the forward pass that was kept: "
            "run the second part's forward pass again. Received: a write to \"",
            names_[v], "\" in between",
            variable->copy_on_read_mode.load() ? ", or the first lookup of its rows." : "."));
      }
    }
    return absl::OkStatus();
  }

  std::vector<std::string> names_;
};

REGISTER_KERNEL_BUILDER(Name("Splitop>HoldVariables").Device(tensorflow::DEVICE_CPU),
                        HoldVariablesKernel);
REGISTER_KERNEL_BUILDER(
    Name("Splitop>HoldVariables").Device(tensorflow::DEVICE_GPU).HostMemory("variables"),
    HoldVariablesKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>CheckHeld").Device(tensorflow::DEVICE_CPU), CheckHeldKernel);
REGISTER_KERNEL_BUILDER(
    Name("Splitop>CheckHeld").Device(tensorflow::DEVICE_GPU).HostMemory("variables"),
    CheckHeldKernel);

}  // namespace
}  // namespace splitop
