// The attributes of Splitop>DenseSweep, parsed and checked, and the places of its outputs.
#ifndef SPLITOP_TF_DENSE_SWEEP_ATTRS_H_
#define SPLITOP_TF_DENSE_SWEEP_ATTRS_H_

#include <string>

#include "absl/status/status.h"
#include "splitop/dense_sweep.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/names.h"

namespace splitop {

struct DenseSweepAttrs {
  DenseChainAttrs chain;  // without biases and update
  splitop_norms norms;
  int num_kernel_gradients;  // that are asked for

  bool has_norms() const { return norms != SPLITOP_NORMS_NONE; }

  // Places among the op's outputs.
  int GradientOutput(int layer) const { return layer; }
  int InputGradientOutput() const { return chain.num_layers(); }
  int NormsOutput() const { return InputGradientOutput() + chain.input_gradient; }
  int KernelGradientOutput(int layer) const { return NormsOutput() + has_norms() + layer; }
};

// That of a kernel's gradient as an output: empty where it is not worth keeping.
struct KernelGradientShape {
  int64_t rows, columns;
};

inline KernelGradientShape GetKernelGradientShape(const DenseSweepAttrs& attrs,
                                                  const DenseChainDims& dims, int layer) {
  const int64_t inputs = dims.widths[layer + 1], outputs = dims.widths[layer];
  if (dims.batch == kUnknownDim || inputs == kUnknownDim || outputs == kUnknownDim) {
    return {kUnknownDim, kUnknownDim};
  }
  const splitop_dtype dtype = ToSplitopDtype(attrs.chain.dtype);
  if (splitop_keeps_kernel_gradient(dtype, dims.batch, inputs, outputs)) return {inputs, outputs};
  return {0, 0};
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadDenseSweepAttrs(Context* context, DenseSweepAttrs* attrs) {
  constexpr char kOp[] = "Splitop>DenseSweep";
  std::string norms;
  int num_squared_norms;
  attrs->chain.updates = false;
  TF_RETURN_IF_ERROR(ReadLayers(context, kOp, &attrs->chain));
  TF_RETURN_IF_ERROR(context->GetAttr("norms", &norms));
  TF_RETURN_IF_ERROR(
      ParseName("norms", norms, SPLITOP_NUM_NORMS, splitop_norms_name, &attrs->norms));
  TF_RETURN_IF_ERROR(context->GetAttr("num_squared_norms", &num_squared_norms));
  TF_RETURN_IF_ERROR(
      CheckCount(kOp, "squared_norms, as norms says", attrs->has_norms(), num_squared_norms));
  TF_RETURN_IF_ERROR(CheckVariableDtype(context, kOp, attrs->chain));
  TF_RETURN_IF_ERROR(ReadKernelGradients(context, kOp, attrs->chain, &attrs->num_kernel_gradients));
  if (attrs->norms != SPLITOP_NORMS_EXACT) {
    TF_RETURN_IF_ERROR(
        CheckCount(kOp, "kernel_gradients unless norms is exact", 0, attrs->num_kernel_gradients));
  }
  attrs->chain.resources = DenseChainResources(attrs->chain);
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_SWEEP_ATTRS_H_
