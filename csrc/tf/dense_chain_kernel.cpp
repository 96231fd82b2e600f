// The CPU kernel of Splitop>DenseChain: glue between TensorFlow and splitop/dense_chain.h.
// The build defines EIGEN_USE_THREADS, which training_op_helpers.h needs.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/intra_op_executor.h"
#include "tf/locked_variables.h"

namespace splitop {
namespace {

using CpuDevice = Eigen::ThreadPoolDevice;
using tensorflow::DataTypeToEnum;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::PartialTensorShape;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The shapes of all inputs; a resource's is that of its variable.
std::vector<PartialTensorShape> InputShapes(OpKernelContext* context, const DenseChainAttrs& attrs,
                                            const LockedVariables& variables) {
  std::vector<PartialTensorShape> shapes;
  shapes.reserve(attrs.num_inputs());
  for (int i = 0; i < attrs.ResourceInput(0); ++i) shapes.push_back(context->input(i).shape());
  for (int r = 0; r < attrs.num_resources(); ++r) shapes.push_back(variables.tensor(r)->shape());
  shapes.push_back(context->input(attrs.HyperInput()).shape());
  return shapes;
}

splitop_variable VariableArgument(const DenseChainAttrs& attrs, const LockedVariables& variables,
                                  int variable) {
  splitop_variable argument = {};
  argument.value = variables.tensor(variable)->data();
  for (int s = 0; s < attrs.slots_per_variable(); ++s) {
    argument.slots[s] = variables.tensor(attrs.SlotResource(variable, s))->data();
  }
  argument.decayed = attrs.variables[variable].decayed;
  return argument;
}

std::vector<splitop_dense_layer> LayerArguments(OpKernelContext* context,
                                                const DenseChainAttrs& attrs,
                                                const DenseChainDims& dims,
                                                const LockedVariables& variables) {
  std::vector<splitop_dense_layer> layers(attrs.num_layers());
  for (int l = 0; l < attrs.num_layers(); ++l) {
    const DenseLayerAttrs& layer = attrs.layers[l];
    layers[l].inputs = dims.widths[l + 1];
    layers[l].outputs = dims.widths[l];
    layers[l].x = context->input(attrs.LayerInput(l)).data();
    if (layer.reference >= 0) {
      layers[l].reference = context->input(attrs.ReferenceInput(layer.reference)).data();
    }
    layers[l].activation = layer.activation;
    layers[l].alpha = layer.alpha;
    layers[l].kernel = VariableArgument(attrs, variables, l);
    if (layer.bias >= 0) layers[l].bias = VariableArgument(attrs, variables, layer.bias);
  }
  return layers;
}

splitop_dense_chain ChainArgument(OpKernelContext* context, const DenseChainAttrs& attrs,
                                  const DenseChainDims& dims,
                                  const std::vector<splitop_dense_layer>& layers) {
  splitop_dense_chain chain = {};
  chain.batch = dims.batch;
  chain.num_layers = attrs.num_layers();
  chain.layers = layers.data();
  chain.seed = context->input(attrs.SeedInput()).data();
  chain.rule = attrs.rule;
  chain.hyper = context->input(attrs.HyperInput()).data();
  return chain;
}

absl::Status AllocateScratch(OpKernelContext* context, size_t bytes, Tensor* scratch) {
  return context->allocate_temp(tensorflow::DT_UINT8, TensorShape({static_cast<int64_t>(bytes)}),
                                scratch);
}

absl::Status ToStatus(splitop_status status) {
  if (status == SPLITOP_OK) return absl::OkStatus();
  const auto message = absl::StrCat("splitop: Splitop>DenseChain: the kernel refused the call. ",
                                    "Received: ", splitop_status_message(status), ".");
  return status == SPLITOP_UNSUPPORTED ? absl::UnimplementedError(message)
                                       : absl::InternalError(message);
}

template <typename T>
class DenseChainCpuOp : public OpKernel {
 public:
  explicit DenseChainCpuOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadDenseChainAttrs(context, &attrs_));
  }

  void Compute(OpKernelContext* context) override { OP_REQUIRES_OK(context, NoThrowRun(context)); }

 private:
  static constexpr splitop_dtype kDtype =
      std::is_same_v<T, float> ? SPLITOP_FLOAT32 : SPLITOP_FLOAT64;

  // An exception that leaves Compute would end the process.
  absl::Status NoThrowRun(OpKernelContext* context) const {
    try {
      return Run(context);
    } catch (const std::exception& error) {
      return absl::InternalError(
          absl::StrCat("splitop: Splitop>DenseChain failed. Received: ", error.what(), "."));
    } catch (...) {
      return absl::InternalError("splitop: Splitop>DenseChain failed. Received: an exception.");
    }
  }

  absl::Status Run(OpKernelContext* context) const {
    LockedVariables variables(attrs_);
    TF_RETURN_IF_ERROR(variables.Acquire(context, DataTypeToEnum<T>::value));
    const auto shapes = InputShapes(context, attrs_, variables);
    DenseChainShapeCheck check(attrs_, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    return Update(context, check.dims(), &variables);
  }

  // All memory is taken before a variable is touched: then nothing can fail any more.
  absl::Status Update(OpKernelContext* context, const DenseChainDims& dims,
                      LockedVariables* variables) const {
    std::vector<splitop_dense_layer> layers = LayerArguments(context, attrs_, dims, *variables);
    splitop_dense_chain chain = ChainArgument(context, attrs_, dims, layers);
    chain.dtype = kDtype;
    chain.variable_dtype = kDtype;
    TF_RETURN_IF_ERROR(AllocateOutput(context, dims, &chain));

    const auto* threads = context->device()->tensorflow_cpu_worker_threads();
    const IntraOpExecutor executor(threads->workers);
    const size_t bytes = splitop_cpu_dense_chain_scratch_bytes(&chain, executor.get()->num_workers);
    Tensor scratch;
    TF_RETURN_IF_ERROR(AllocateScratch(context, bytes, &scratch));

    TF_RETURN_IF_ERROR((variables->PrepareToUpdate<CpuDevice, T>(context)));
    layers = LayerArguments(context, attrs_, dims, *variables);  // some may have moved
    chain.layers = layers.data();
    const ScopedFloatMode float_mode;
    return ToStatus(splitop_cpu_dense_chain(&chain, scratch.data(), bytes, executor.get()));
  }

  absl::Status AllocateOutput(OpKernelContext* context, const DenseChainDims& dims,
                              splitop_dense_chain* chain) const {
    if (!attrs_.input_gradient) return absl::OkStatus();
    Tensor* output = nullptr;
    TF_RETURN_IF_ERROR(
        context->allocate_output(0, TensorShape({dims.batch, dims.widths.back()}), &output));
    chain->input_gradient = output->data();
    return absl::OkStatus();
  }

  DenseChainAttrs attrs_;
};

REGISTER_KERNEL_BUILDER(
    Name("Splitop>DenseChain").Device(tensorflow::DEVICE_CPU).TypeConstraint<float>("T"),
    DenseChainCpuOp<float>);
REGISTER_KERNEL_BUILDER(
    Name("Splitop>DenseChain").Device(tensorflow::DEVICE_CPU).TypeConstraint<double>("T"),
    DenseChainCpuOp<double>);

}  // namespace
}  // namespace splitop
