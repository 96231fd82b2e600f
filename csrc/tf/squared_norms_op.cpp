// The op Splitop>SquaredNorms, and its CPU kernel.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "splitop/dense_sweep.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/names.h"
#include "tf/op_kernel.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::shape_inference::InferenceContext;

absl::Status SquaredNormsShape(InferenceContext* context) {
  context->set_output(0, context->Vector(context->num_inputs()));
  return absl::OkStatus();
}

REGISTER_OP("Splitop>SquaredNorms")
    .Input("tensors: num_tensors * T")
    .Output("squared_norms: double")
    .Attr("T: {float, double}")
    .Attr("num_tensors: int >= 1")
    .SetShapeFn(SquaredNormsShape)
    .Doc(R"doc(
The sum of the squares of each tensor, summed up in double.

The result is the same, bit for bit, from run to run, whatever the number of threads.

tensors: Tensors of any shapes.
squared_norms: One for each tensor.
T: The type of all tensors.
num_tensors: How many there are.
)doc");

class SquaredNormsCpuKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  using Call = CpuCall<splitop_squared_norms, splitop_cpu_squared_norms_scratch_bytes,
                       splitop_cpu_squared_norms>;

  absl::Status Execute(OpKernelContext* context) const override {
    const int num_tensors = context->num_inputs();
    tensorflow::Tensor* squared_norms = nullptr;
    TF_RETURN_IF_ERROR(
        context->allocate_output(0, tensorflow::TensorShape({num_tensors}), &squared_norms));
    std::vector<int64_t> counts;
    std::vector<const void*> tensors;
    for (int i = 0; i < num_tensors; ++i) {
      counts.push_back(context->input(i).NumElements());
      tensors.push_back(context->input(i).data());
    }
    splitop_squared_norms norms = {};
    norms.dtype = ToSplitopDtype(context->input_dtype(0));
    norms.num_tensors = num_tensors;
    norms.counts = counts.data();
    norms.tensors = tensors.data();
    norms.squared_norms = squared_norms->flat<double>().data();
    return RunWithScratch(Call(context), norms);
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                           \
  REGISTER_KERNEL_BUILDER(                                                                   \
      Name("Splitop>SquaredNorms").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      SquaredNormsCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
