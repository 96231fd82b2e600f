// How an op inside XLA is described: the ops of this directory are structs of static members.
//
// - Attrs, ReadAttrs(context, attrs): the attributes; context: OpKernelConstruction or NodeAttrs
// - kName, kTarget: of the op; of its custom call
// - kWrites: whether it writes its resources
// - GetResources(attrs)
// - GetOutputs(attrs, shapes, outputs): while XLA compiles: checks the inputs, tells the outputs
// - HostCall<Pool>: the C function on the CPU
// - CudaFunction: that on a GPU, of a *_cuda.h, if there is one
// - Run(attrs, buffers, run): while the program runs: checks the inputs again, makes the C
//   function's argument and returns run(argument)
#ifndef SPLITOP_JIT_OP_H_
#define SPLITOP_JIT_OP_H_

#include <vector>

#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"

namespace splitop {

struct OutputShape {
  tensorflow::DataType dtype;
  tensorflow::TensorShape shape;
};

using OutputShapes = std::vector<OutputShape>;

}  // namespace splitop

#endif  // SPLITOP_JIT_OP_H_
