// Registers how XLA compiles the ops.
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/dense_chain.h"
#include "jit/dense_sweep.h"
#include "jit/multi_tensor_update.h"
#include "jit/squared_norms.h"
#include "jit/table_lookup.h"
#include "jit/table_update.h"
#include "jit/xla_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"

namespace splitop {
namespace {

// Not by REGISTER_XLA_OP: what that registers is only seen if it comes before the first compilation
// of the process, and this library may be loaded later.
#define SPLITOP_REGISTER_XLA(Op) \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(tensorflow::DEVICE_CPU_XLA_JIT), XlaKernel<Op>)
SPLITOP_REGISTER_XLA(DenseChain);
SPLITOP_REGISTER_XLA(DenseSweep);
SPLITOP_REGISTER_XLA(SquaredNorms);
SPLITOP_REGISTER_XLA(MultiTensorUpdate);
SPLITOP_REGISTER_XLA(TableLookup);
SPLITOP_REGISTER_XLA(TableUpdate);
#undef SPLITOP_REGISTER_XLA

// On a GPU. A condition is there, too, when XLA's program runs, and the host does not wait for it.
template <typename Op>
class GpuXlaKernel final : public XlaKernel<Op> {
 public:
  explicit GpuXlaKernel(tensorflow::OpKernelConstruction* context) : XlaKernel<Op>(context) {
    if (!context->status().ok()) return;
    OP_REQUIRES(context, this->attrs().update.num_conditions == 0,
                absl::UnimplementedError(absl::StrCat(
                    "splitop: NotFusableError: ", Op::kName,
                    " takes no condition inside jit_compile=True on a GPU. Received: 1.")));
  }
};

#define SPLITOP_REGISTER_XLA(Op) \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(tensorflow::DEVICE_GPU_XLA_JIT), GpuXlaKernel<Op>)
SPLITOP_REGISTER_XLA(DenseChain);
SPLITOP_REGISTER_XLA(MultiTensorUpdate);
SPLITOP_REGISTER_XLA(TableUpdate);
#undef SPLITOP_REGISTER_XLA

}  // namespace
}  // namespace splitop
