// The arguments of the C functions on a chain, from the op's inputs and variables.
#ifndef SPLITOP_TF_DENSE_CHAIN_ARGUMENTS_H_
#define SPLITOP_TF_DENSE_CHAIN_ARGUMENTS_H_

#include <vector>

#include "splitop/dense_chain.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/names.h"
#include "tf/update_attrs.h"

namespace splitop {

// They point into the inputs and the variables.
template <typename Inputs>  // OpKernelContext, or what else has input(index)
class DenseChainArguments {
 public:
  DenseChainArguments(Inputs* inputs, const DenseChainAttrs& attrs, const DenseChainDims& dims)
      : inputs_(inputs), attrs_(attrs), dims_(dims), layers_(attrs.num_layers()) {
    chain_.dtype = ToSplitopDtype(attrs.dtype);
    chain_.variable_dtype = ToSplitopDtype(attrs.variable_dtype);
    chain_.batch = dims.batch;
    chain_.num_layers = attrs.num_layers();
    chain_.layers = layers_.data();
    chain_.forward = attrs.forward;
    chain_.seed = Data(attrs.SeedInput());
    if (attrs.updates) {
      chain_.rule = attrs.update.rule;
      chain_.hyper = Data(attrs.update.HyperInput());
    }
    for (int l = 0; l < attrs.num_layers(); ++l) SetLayer(l);
  }
  DenseChainArguments(const DenseChainArguments&) = delete;
  DenseChainArguments& operator=(const DenseChainArguments&) = delete;

  // Where the variables are now.
  template <typename Variables>  // LockedVariables, or what else has tensor(resource)
  void SetVariables(const Variables& variables) {
    for (int l = 0; l < attrs_.num_layers(); ++l) {
      layers_[l].kernel = Variable(variables, l);
      const int bias = attrs_.layers[l].bias;
      if (bias >= 0) layers_[l].bias = Variable(variables, bias);
    }
  }

  void SetInputGradient(void* input_gradient) { chain_.input_gradient = input_gradient; }

  const splitop_dense_chain& call() const { return chain_; }

 private:
  const void* Data(int input) const { return inputs_->input(input).data(); }

  void SetLayer(int l) {
    const DenseLayerAttrs& attrs = attrs_.layers[l];
    splitop_dense_layer& layer = layers_[l];
    layer.inputs = dims_.widths[l + 1];
    layer.outputs = dims_.widths[l];
    if (attrs_.HasLayerInput(l)) layer.x = Data(attrs_.LayerInput(l));
    if (attrs.reference >= 0) layer.reference = Data(attrs_.ReferenceInput(attrs.reference));
    if (attrs_.HasKernelCopy(l)) layer.kernel_copy = Data(attrs_.KernelCopyInput(l));
    if (attrs_.HasKernelGradient(l)) layer.kernel_gradient = KernelGradient(l);
    layer.activation = attrs.activation;
    layer.alpha = attrs.alpha;
  }

  const void* KernelGradient(int l) const {
    const auto& gradient = inputs_->input(attrs_.KernelGradientInput(l));
    return gradient.NumElements() > 0 ? gradient.data() : nullptr;
  }

  template <typename Variables>
  splitop_variable Variable(const Variables& variables, int variable) const {
    if (!attrs_.updates) return {variables.tensor(variable)->data(), {}, 0, nullptr};
    return VariableArgument(inputs_, attrs_.update, attrs_.resources, variables, variable);
  }

  Inputs* const inputs_;
  const DenseChainAttrs& attrs_;
  const DenseChainDims& dims_;
  std::vector<splitop_dense_layer> layers_;
  splitop_dense_chain chain_ = {};
};

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_ARGUMENTS_H_
