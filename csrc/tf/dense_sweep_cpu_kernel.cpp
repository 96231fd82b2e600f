// The CPU kernel of Splitop>DenseSweep.
#include <vector>

#include "absl/status/status.h"
#include "splitop/dense_sweep.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/dense_chain_kernel.h"
#include "tf/dense_sweep_arguments.h"
#include "tf/dense_sweep_attrs.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/op_kernel.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class DenseSweepCpuKernel final : public NoThrowKernel {
 public:
  explicit DenseSweepCpuKernel(tensorflow::OpKernelConstruction* context) : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, ReadDenseSweepAttrs(context, &attrs_));
  }

 private:
  using Call =
      CpuCall<splitop_dense_sweep, splitop_cpu_dense_sweep_scratch_bytes, splitop_cpu_dense_sweep>;

  absl::Status Execute(OpKernelContext* context) const override {
    LockedVariables kernels(attrs_.chain.resources);
    TF_RETURN_IF_ERROR(kernels.Acquire(context));
    const InputShapes shapes = ReceivedInputShapes(context, attrs_.chain.resources, kernels);
    DenseChainShapeCheck check(attrs_.chain, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    DenseChainArguments arguments(context, attrs_.chain, check.dims());
    arguments.SetVariables(kernels);
    TF_RETURN_IF_ERROR(AllocateInputGradient(context, attrs_.InputGradientOutput(), attrs_.chain,
                                             check.dims(), &arguments));
    std::vector<void*> gradients;
    TF_RETURN_IF_ERROR(AllocateGradients(context, check.dims(), &gradients));
    splitop_dense_sweep sweep = ToSweep(arguments.call());
    sweep.gradients = gradients.data();
    sweep.norms = attrs_.norms;
    if (attrs_.has_norms()) {
      Tensor* norms = nullptr;
      TF_RETURN_IF_ERROR(context->allocate_output(
          attrs_.NormsOutput(), TensorShape({2, attrs_.chain.num_layers()}), &norms));
      sweep.squared_norms = norms->flat<double>().data();
    }
    std::vector<void*> kernel_gradients;
    TF_RETURN_IF_ERROR(AllocateKernelGradients(context, check.dims(), &kernel_gradients));
    if (!kernel_gradients.empty()) sweep.kernel_gradients = kernel_gradients.data();
    return RunWithScratch(Call(context), sweep);
  }

  absl::Status AllocateGradients(OpKernelContext* context, const DenseChainDims& dims,
                                 std::vector<void*>* gradients) const {
    for (int l = 0; l < attrs_.chain.num_layers(); ++l) {
      Tensor* gradient = nullptr;
      TF_RETURN_IF_ERROR(context->allocate_output(
          attrs_.GradientOutput(l), TensorShape({dims.batch, dims.widths[l]}), &gradient));
      gradients->push_back(gradient->data());
    }
    return absl::OkStatus();
  }

  absl::Status AllocateKernelGradients(OpKernelContext* context, const DenseChainDims& dims,
                                       std::vector<void*>* gradients) const {
    for (int l = 0; l < attrs_.num_kernel_gradients; ++l) {
      const KernelGradientShape shape = GetKernelGradientShape(attrs_, dims, l);
      Tensor* gradient = nullptr;
      TF_RETURN_IF_ERROR(context->allocate_output(
          attrs_.KernelGradientOutput(l), TensorShape({shape.rows, shape.columns}), &gradient));
      gradients->push_back(gradient->NumElements() > 0 ? gradient->data() : nullptr);
    }
    return absl::OkStatus();
  }

  DenseSweepAttrs attrs_;
};

#define SPLITOP_REGISTER_CPU(type)                                                         \
  REGISTER_KERNEL_BUILDER(                                                                 \
      Name("Splitop>DenseSweep").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      DenseSweepCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
SPLITOP_REGISTER_CPU(Eigen::bfloat16);
SPLITOP_REGISTER_CPU(Eigen::half);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
