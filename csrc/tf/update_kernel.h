// The last part of every op that updates variables.
#ifndef SPLITOP_TF_UPDATE_KERNEL_H_
#define SPLITOP_TF_UPDATE_KERNEL_H_

#include "absl/status/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/locked_variables.h"
#include "tf/op_kernel.h"

namespace splitop {

// `variables` are locked and all inputs checked. All memory is taken before a variable is touched:
// then nothing but the device can fail. Arguments::SetVariables takes where the variables are;
// Arguments::call gives a Call.
template <typename Arguments, typename Call>
absl::Status Update(tensorflow::OpKernelContext* context, const DeviceCall<Call>& device,
                    LockedVariables* variables, Arguments* arguments) {
  arguments->SetVariables(*variables);
  tensorflow::Tensor scratch;
  TF_RETURN_IF_ERROR(device.AllocateScratch(arguments->call(), &scratch));
  TF_RETURN_IF_ERROR(variables->PrepareToUpdate(
      context, [&](const auto& from, auto* to) { return device.Copy(from, to); }));
  arguments->SetVariables(*variables);  // some may have moved
  return device.Run(arguments->call(), scratch.data(), scratch.TotalBytes());
}

}  // namespace splitop

#endif  // SPLITOP_TF_UPDATE_KERNEL_H_
