// Which shapes and dtypes the inputs of Splitop>DenseChain must have: one definition, used on
// what is known while the graph is built (shape function) and on what arrives (kernel).
#ifndef SPLITOP_TF_DENSE_CHAIN_SHAPES_H_
#define SPLITOP_TF_DENSE_CHAIN_SHAPES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tf/dense_chain_attrs.h"
#include "tf/input_shapes.h"
#include "tf/shapes.h"
#include "tf/update_attrs.h"

namespace splitop {

// The sizes that the inputs agree on; kUnknownDim where no input tells.
struct DenseChainDims {
  explicit DenseChainDims(int num_layers) : widths(num_layers + 1, kUnknownDim) {}

  int64_t batch = kUnknownDim;
  std::vector<int64_t> widths;  // layer l maps widths[l + 1] inputs to widths[l] outputs
};

// One shape for each input of the op; a resource's is that of its variable.
class DenseChainShapeCheck {
 public:
  DenseChainShapeCheck(const DenseChainAttrs& attrs, const InputShapes& shapes)
      : attrs_(attrs), shapes_(shapes), dims_(attrs.num_layers()) {}

  // The variables come first: they stand, so what disagrees with them is at fault. The seed
  // comes last: by then all that it must fit is known.
  absl::Status Run() {
    if (attrs_.updates) TF_RETURN_IF_ERROR(CheckUpdateInputs(attrs_.update, shapes_));
    TF_RETURN_IF_ERROR(CheckKernels());
    TF_RETURN_IF_ERROR(CheckBiases());
    TF_RETURN_IF_ERROR(CheckSlots(attrs_.update, attrs_.resources, shapes_));
    TF_RETURN_IF_ERROR(CheckKernelCopies());
    TF_RETURN_IF_ERROR(CheckKernelGradients());
    TF_RETURN_IF_ERROR(CheckLayerInputs());
    TF_RETURN_IF_ERROR(CheckReferences());
    return CheckSeed();
  }

  const DenseChainDims& dims() const { return dims_; }

 private:
  std::string Quoted(int layer) const {
    return absl::StrCat("\"", attrs_.layers[layer].name, "\"");
  }

  // The columns of a layer's input say how a kernel of more dimensions splits.
  int64_t KnownInputs(int layer) const {
    if (!attrs_.HasLayerInput(layer)) return kUnknownDim;
    const auto& x = shapes_[attrs_.LayerInput(layer)];
    return x.unknown_rank() || x.dims() != 2 ? kUnknownDim : x.dim_size(1);
  }

  absl::Status CheckKernels() {
    for (int l = 0; l < attrs_.num_layers(); ++l) {
      const auto& shape = shapes_[attrs_.ResourceInput(l)];
      int64_t* const inputs = &dims_.widths[l + 1];
      int64_t* const units = &dims_.widths[l];
      const auto describe = [&] {
        return ShapeDescription{
            "SplitError", attrs_.DescribeResource(l),
            l == 0 ? "inputs x units"
                   : absl::StrCat("inputs x units; its units feed ", Quoted(l - 1))};
      };
      if (!shape.unknown_rank() && shape.dims() > 2) *inputs = KnownInputs(l);
      // Without the input of each layer nothing says how a kernel of more dimensions splits.
      const auto matrix = attrs_.forward ? shape : AsMatrix(shape, *inputs, *units);
      TF_RETURN_IF_ERROR(ExpectShape(matrix, {inputs, units}, describe));
      if (*units == 0 || *inputs == 0) return EmptyKernel(l);
    }
    return absl::OkStatus();
  }

  absl::Status EmptyKernel(int layer) const {
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: SplitError: ", attrs_.DescribeResource(layer),
                     " must have at least one row and one column. Received: ",
                     FormatShape(shapes_[attrs_.ResourceInput(layer)]), "."));
  }

  absl::Status CheckBiases() {
    for (int v = attrs_.num_layers(); v < attrs_.num_variables(); ++v) {
      const int layer = attrs_.variables[v].layer;
      int64_t* const units = &dims_.widths[layer];
      const auto shape = AsVector(shapes_[attrs_.ResourceInput(v)], *units);
      TF_RETURN_IF_ERROR(ExpectShape(shape, {units}, [&] {
        return ShapeDescription{"SplitError", attrs_.DescribeResource(v),
                                absl::StrCat("units of ", Quoted(layer))};
      }));
    }
    return absl::OkStatus();
  }

  absl::Status CheckKernelCopies() {
    for (int l = 0; l < attrs_.num_kernel_copies; ++l) {
      TF_RETURN_IF_ERROR(ExpectShape(
          shapes_[attrs_.KernelCopyInput(l)], {&dims_.widths[l + 1], &dims_.widths[l]}, [&] {
            return ShapeDescription{"SplitError",
                                    absl::StrCat("the copy of ", attrs_.DescribeResource(l)),
                                    "the shape of the kernel"};
          }));
    }
    return absl::OkStatus();
  }

  // Whether one is empty, only the batch may tell.
  absl::Status CheckKernelGradients() {
    for (int l = 0; l < attrs_.num_kernel_gradients; ++l) {
      const auto& shape = shapes_[attrs_.KernelGradientInput(l)];
      if (!shape.IsFullyDefined() || shape.num_elements() == 0) continue;
      TF_RETURN_IF_ERROR(ExpectShape(shape, {&dims_.widths[l + 1], &dims_.widths[l]}, [&] {
        return ShapeDescription{"SplitError",
                                absl::StrCat("the gradient of ", attrs_.DescribeResource(l)),
                                "that of the kernel as a matrix, or empty"};
      }));
    }
    return absl::OkStatus();
  }

  // The bottom layer's input is the second part's own: it says what the batch is.
  absl::Status CheckLayerInputs() {
    const int bottom = attrs_.num_layers() - 1;
    for (int l = bottom; l >= 0 && attrs_.HasLayerInput(l); --l) {
      TF_RETURN_IF_ERROR(
          ExpectShape(shapes_[attrs_.LayerInput(l)], {&dims_.batch, &dims_.widths[l + 1]}, [&] {
            return ShapeDescription{"SplitError", absl::StrCat("the input of ", Quoted(l)),
                                    absl::StrCat("batch", l == bottom ? "" : BatchSource(),
                                                 " x inputs of ", Quoted(l))};
          }));
    }
    if (dims_.batch != 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: SplitError: the input of ", Quoted(bottom),
                     " must have at least one row: an empty batch trains nothing. Received: ",
                     FormatShape(shapes_[attrs_.LayerInput(bottom)]), "."));
  }

  absl::Status CheckReferences() {
    for (int l = 0; l < attrs_.num_layers(); ++l) {
      const int reference = attrs_.layers[l].reference;
      if (reference < 0) continue;
      TF_RETURN_IF_ERROR(ExpectShape(
          shapes_[attrs_.ReferenceInput(reference)], {&dims_.batch, &dims_.widths[l]}, [&] {
            return ShapeDescription{
                "SplitError", absl::StrCat("the activation of the layer of ", Quoted(l)),
                absl::StrCat("batch", BatchSource(), " x units of ", Quoted(l))};
          }));
    }
    return absl::OkStatus();
  }

  absl::Status CheckSeed() {
    return ExpectShape(shapes_[attrs_.SeedInput()], {&dims_.batch, &dims_.widths[0]}, [&] {
      return ShapeDescription{"SeedError", absl::StrCat("seed \"", attrs_.seed_name, "\""),
                              absl::StrCat("batch", BatchSource(), " x units of ", Quoted(0))};
    });
  }

  static const char* BatchSource() { return " of the second part's input"; }

  const DenseChainAttrs& attrs_;
  const InputShapes& shapes_;
  DenseChainDims dims_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_SHAPES_H_
