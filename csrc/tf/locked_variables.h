// The resource variables of one call: looked up, told apart, locked, checked, made writable.
#ifndef SPLITOP_TF_LOCKED_VARIABLES_H_
#define SPLITOP_TF_LOCKED_VARIABLES_H_

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/mutex.h"
#include "tf/resources.h"
#include "tf/shapes.h"

namespace splitop {

class LockedVariables {
 public:
  explicit LockedVariables(const Resources& resources) : resources_(resources) {}
  LockedVariables(const LockedVariables&) = delete;
  LockedVariables& operator=(const LockedVariables&) = delete;

  // Finds and locks all resources of the call, until this object goes. On success each is an
  // initialised variable of the right dtype and no two are the same.
  absl::Status Acquire(tensorflow::OpKernelContext* context) {
    TF_RETURN_IF_ERROR(LookUp(context));
    const std::vector<int> order = AddressOrder();
    TF_RETURN_IF_ERROR(CheckDistinct(order));
    locks_.reserve(order.size());
    for (const int r : order) locks_.emplace_back(*variables_[r]->mu());
    return CheckValues();
  }

  // The value of a resource. Don't keep a copy of the tensor: it would count as a reader.
  tensorflow::Tensor* tensor(int resource) const { return variables_[resource]->tensor(); }

  // Gives a buffer of its own to each variable that somebody still reads, so that the readers'
  // tensors stay as they are. `copy(from, to)` returns a status and may only enqueue the work.
  // All buffers are there before the first copy: a failure leaves all variables as they were.
  template <typename Copy>
  absl::Status PrepareToUpdate(tensorflow::OpKernelContext* context, Copy copy) {
    std::vector<std::pair<tensorflow::Tensor*, tensorflow::Tensor>> moves;
    for (const auto& variable : variables_) {
      if (!MustMove(*variable)) continue;
      moves.emplace_back(variable->tensor(), tensorflow::Tensor());
      TF_RETURN_IF_ERROR(AllocateLike(context, *variable->tensor(), &moves.back().second));
    }
    for (auto& [from, to] : moves) TF_RETURN_IF_ERROR(copy(*from, &to));
    for (auto& [from, to] : moves) *from = std::move(to);
    return absl::OkStatus();
  }

 private:
  using Variable = tensorflow::core::RefCountPtr<tensorflow::Var>;

  // A variable that was gathered from is in copy-on-read mode: whoever reads all of it gets a copy,
  // and a gather holds the lock. So there, too, only a tensor that shares the buffer is in the way.
  static bool MustMove(tensorflow::Var& variable) { return !variable.tensor()->RefCountIsOne(); }

  // Memory of the kind that TensorFlow gives to variables.
  static absl::Status AllocateLike(tensorflow::OpKernelContext* context,
                                   const tensorflow::Tensor& like, tensorflow::Tensor* tensor) {
    tensorflow::AllocatorAttributes attributes;
    attributes.set_gpu_compatible(true);
    attributes.set_nic_compatible(true);
    return context->allocate_temp(like.dtype(), like.shape(), tensor, attributes);
  }

  absl::Status LookUp(tensorflow::OpKernelContext* context) {
    variables_.resize(resources_.size());
    for (int r = 0; r < resources_.size(); ++r) {
      const tensorflow::Tensor& handles = context->input(resources_.Input(r));
      if (handles.NumElements() != 1) return NoHandle(r, handles.shape());
      const auto& handle = handles.flat<tensorflow::ResourceHandle>()(0);
      const absl::Status status = tensorflow::LookupResource(context, handle, &variables_[r]);
      if (absl::IsNotFound(status)) return NoValue(r, status.message());
      if (!status.ok()) return NoVariable(r, status);
    }
    return absl::OkStatus();
  }

  absl::Status NoHandle(int resource, const tensorflow::TensorShape& received) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "splitop: VariableListError: ", resources_.descriptions[resource],
        " must be one resource handle. Received: handles of shape ", FormatShape(received), "."));
  }

  absl::Status NoValue(int resource, absl::string_view received) const {
    return absl::FailedPreconditionError(absl::StrCat(
        "splitop: VariableListError: ", resources_.descriptions[resource],
        " has no value: it was never initialized, or was deleted. Received: ", received));
  }

  absl::Status NoVariable(int resource, const absl::Status& cause) const {
    return absl::Status(
        cause.code(),
        absl::StrCat("splitop: VariableListError: ", resources_.descriptions[resource],
                     " must be a variable on the op's own device. Received: ", cause.message()));
  }

  // The order in which TensorFlow's own training ops lock.
  std::vector<int> AddressOrder() const {
    std::vector<int> order(variables_.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [this](int a, int b) {
      return std::less<>()(variables_[a]->mu(), variables_[b]->mu());
    });
    return order;
  }

  absl::Status CheckDistinct(const std::vector<int>& order) const {
    const auto same = std::adjacent_find(order.begin(), order.end(), [this](int a, int b) {
      return variables_[a].get() == variables_[b].get();
    });
    if (same == order.end()) return absl::OkStatus();
    const auto [first, second] = std::minmax(same[0], same[1]);
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: VariableListError: a variable can be updated only once. Received: ",
                     resources_.descriptions[first], " and ", resources_.descriptions[second],
                     " are the same variable."));
  }

  absl::Status CheckValues() const {
    for (int r = 0; r < resources_.size(); ++r) {
      if (!variables_[r]->is_initialized || !tensor(r)->IsInitialized()) {
        return NoValue(r, "a variable without a value.");
      }
      TF_RETURN_IF_ERROR(resources_.CheckDtype(r, tensor(r)->dtype()));
    }
    return absl::OkStatus();
  }

  const Resources& resources_;
  std::vector<Variable> variables_;
  std::vector<tensorflow::mutex_lock> locks_;  // after variables_: unlocked before they go
};

}  // namespace splitop

#endif  // SPLITOP_TF_LOCKED_VARIABLES_H_
