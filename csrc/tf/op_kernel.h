// What the kernels of all ops have in common: glue between TensorFlow and the C ABI. `Call` is the
// argument struct of the C function behind the op.
#ifndef SPLITOP_TF_OP_KERNEL_H_
#define SPLITOP_TF_OP_KERNEL_H_

#include <cstddef>
#include <cstdint>
#include <exception>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/errors.h"

namespace splitop {

// A device, during one execution of an op. On a GPU all of it is enqueued on one stream.
template <typename Call>
class DeviceCall {
 public:
  virtual ~DeviceCall() = default;
  virtual absl::Status AllocateScratch(const Call& call, tensorflow::Tensor* scratch) const = 0;
  virtual absl::Status Copy(const tensorflow::Tensor& from, tensorflow::Tensor* to) const = 0;
  virtual absl::Status Run(const Call& call, void* scratch, size_t bytes) const = 0;
};

inline absl::Status NoMemoryForScratch(size_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("splitop: no memory for scratch. Received: ", bytes, " bytes."));
}

template <typename Call>
absl::Status RunWithScratch(const DeviceCall<Call>& device, const Call& call) {
  tensorflow::Tensor scratch;
  TF_RETURN_IF_ERROR(device.AllocateScratch(call, &scratch));
  return device.Run(call, scratch.data(), scratch.TotalBytes());
}

class NoThrowKernel : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    OP_REQUIRES_OK(context, NoThrowExecute(context));
  }

 protected:
  // Sets up the device and does the work.
  virtual absl::Status Execute(tensorflow::OpKernelContext* context) const = 0;

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

}  // namespace splitop

#endif  // SPLITOP_TF_OP_KERNEL_H_
