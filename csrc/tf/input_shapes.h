// The shapes of an op's inputs; a resource's is that of its variable.
#ifndef SPLITOP_TF_INPUT_SHAPES_H_
#define SPLITOP_TF_INPUT_SHAPES_H_

#include <vector>

#include "absl/status/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tf/locked_variables.h"
#include "tf/resources.h"

namespace splitop {

using InputShapes = std::vector<tensorflow::PartialTensorShape>;

inline tensorflow::PartialTensorShape ToPartialShape(
    tensorflow::shape_inference::InferenceContext* context,
    tensorflow::shape_inference::ShapeHandle handle) {
  if (!context->RankKnown(handle)) return tensorflow::PartialTensorShape();
  tensorflow::PartialTensorShape shape({});
  for (int d = 0; d < context->Rank(handle); ++d) {
    shape.AddDim(context->Value(context->Dim(handle, d)));
  }
  return shape;
}

// What is known while the graph is built. Variables are of the right dtype, if that is known.
inline absl::Status KnownInputShapes(tensorflow::shape_inference::InferenceContext* context,
                                     const Resources& resources, InputShapes* shapes) {
  for (int i = 0; i < context->num_inputs(); ++i) {
    shapes->push_back(ToPartialShape(context, context->input(i)));
  }
  for (int r = 0; r < resources.size(); ++r) {
    const auto* known = context->input_handle_shapes_and_types(resources.Input(r));
    auto& shape = (*shapes)[resources.Input(r)];
    shape = tensorflow::PartialTensorShape();
    if (known == nullptr || known->size() != 1) continue;
    shape = ToPartialShape(context, known->front().shape);
    TF_RETURN_IF_ERROR(resources.CheckDtype(r, known->front().dtype));
  }
  return absl::OkStatus();
}

// What has arrived.
inline InputShapes ReceivedInputShapes(tensorflow::OpKernelContext* context,
                                       const Resources& resources,
                                       const LockedVariables& variables) {
  InputShapes shapes;
  shapes.reserve(context->num_inputs());
  for (int i = 0; i < context->num_inputs(); ++i) shapes.push_back(context->input(i).shape());
  for (int r = 0; r < resources.size(); ++r) {
    shapes[resources.Input(r)] = variables.tensor(r)->shape();
  }
  return shapes;
}

}  // namespace splitop

#endif  // SPLITOP_TF_INPUT_SHAPES_H_
