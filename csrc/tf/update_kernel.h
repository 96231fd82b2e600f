// What the kernels of all ops that update variables have in common: glue between TensorFlow and
// the C ABI. `Call` is the argument struct of the C function behind the op.
#ifndef SPLITOP_TF_UPDATE_KERNEL_H_
#define SPLITOP_TF_UPDATE_KERNEL_H_

#include <cstddef>
#include <cstdint>
#include <exception>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/locked_variables.h"

namespace splitop {

// A device, during one execution of an op. On a GPU all of it is enqueued on one stream.
template <typename Call>
class DeviceCall {
 public:
  virtual ~DeviceCall() = default;
  virtual size_t ScratchBytes(const Call& call) const = 0;
  virtual absl::Status Copy(const tensorflow::Tensor& from, tensorflow::Tensor* to) const = 0;
  virtual absl::Status Run(const Call& call, void* scratch, size_t bytes) const = 0;
};

class UpdateKernel : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    OP_REQUIRES_OK(context, NoThrowExecute(context));
  }

 protected:
  // Sets up the device and updates the variables.
  virtual absl::Status Execute(tensorflow::OpKernelContext* context) const = 0;

  // The last part of an update. `variables` are locked and all inputs checked. All memory is taken
  // before a variable is touched: then nothing but the device can fail.
  // Arguments::SetVariables takes where the variables are; Arguments::call gives a Call.
  template <typename Arguments, typename Call>
  static absl::Status Update(tensorflow::OpKernelContext* context, const DeviceCall<Call>& device,
                             LockedVariables* variables, Arguments* arguments) {
    arguments->SetVariables(*variables);
    const size_t bytes = device.ScratchBytes(arguments->call());
    tensorflow::Tensor scratch;
    TF_RETURN_IF_ERROR(context->allocate_temp(
        tensorflow::DT_UINT8, tensorflow::TensorShape({static_cast<int64_t>(bytes)}), &scratch));
    TF_RETURN_IF_ERROR(variables->PrepareToUpdate(
        context, [&](const auto& from, auto* to) { return device.Copy(from, to); }));
    arguments->SetVariables(*variables);  // some may have moved
    return device.Run(arguments->call(), scratch.data(), bytes);
  }

 private:
  // An exception that leaves Compute would end the process.
  absl::Status NoThrowExecute(tensorflow::OpKernelContext* context) const {
    try {
      return Execute(context);
    } catch (const std::exception& error) {
      return Failed(error.what());
    } catch (...) {
      return Failed("an exception");
    }
  }

  absl::Status Failed(absl::string_view received) const {
    return absl::InternalError(
        absl::StrCat("splitop: ", type_string(), " failed. Received: ", received, "."));
  }
};

// What a C function has refused.
inline absl::Status KernelError(absl::string_view op, absl::StatusCode code,
                                absl::string_view received) {
  return absl::Status(
      code,
      absl::StrCat("splitop: ", op, ": the kernel refused the call. Received: ", received, "."));
}

// The arguments of one variable; its slots follow from `slot` on among the resources.
inline splitop_variable VariableArgument(const LockedVariables& variables, int variable,
                                         int first_slot, int num_slots, bool decayed) {
  splitop_variable argument = {};
  argument.value = variables.tensor(variable)->data();
  for (int s = 0; s < num_slots; ++s) {
    argument.slots[s] = variables.tensor(first_slot + s)->data();
  }
  argument.decayed = decayed;
  return argument;
}

}  // namespace splitop

#endif  // SPLITOP_TF_UPDATE_KERNEL_H_
