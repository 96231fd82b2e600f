// The update of many variables on CPUs: blocks of elements, whichever variable they belong to.
#include "splitop/multi_tensor_update.h"

#include <algorithm>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

constexpr int64_t kBlockElements = 1 << 14;  // a task; with Adam 256 KB move
constexpr double kFlopsPerElement = 20;      // what moving an element costs, in arithmetic

template <typename T>
class UpdateRun {
 public:
  UpdateRun(const splitop_multi_tensor_update& update, const splitop_executor& executor)
      : kernels_(dense_chain_kernels<T>()), update_(update), executor_(executor) {
    for (int32_t i = 0; i < update.num_tensors; ++i) {
      elements_ += update.tensors[i].count;
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) +
                      ceil_div(update.tensors[i].count, kBlockElements));
    }
  }

  void run() const {
    if (elements_ == 0) return;
    const double flops = kFlopsPerElement * static_cast<double>(elements_);
    parallel_tasks(executor_, executor_.num_workers, ends_.back(), flops,
                   [this](int64_t block, int32_t) { update_block(block); });
  }

 private:
  void update_block(int64_t block) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), block);
    const int64_t first = end == ends_.begin() ? 0 : *(end - 1);
    const splitop_tensor_update& tensor = update_.tensors[end - ends_.begin()];
    const int64_t offset = (block - first) * kBlockElements;
    kernels_.update(update_.rule, tensor.variable, static_cast<const T*>(update_.hyper), offset,
                    std::min(kBlockElements, tensor.count - offset),
                    static_cast<const T*>(tensor.gradient) + offset);
  }

  const DenseChainKernels<T>& kernels_;
  const splitop_multi_tensor_update& update_;
  const splitop_executor& executor_;
  std::vector<int64_t> ends_;  // of each tensor's blocks, counted through
  int64_t elements_ = 0;
};

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_multi_tensor_update(const splitop_multi_tensor_update* update,
                                               const splitop_executor* executor) {
  if (!splitop::valid(update) || executor == nullptr || executor->num_workers < 1 ||
      (executor->run == nullptr && executor->num_workers > 1)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  if (update->gradient_dtype != update->variable_dtype) return SPLITOP_UNSUPPORTED;
  if (update->variable_dtype == SPLITOP_FLOAT32) {
    splitop::UpdateRun<float>(*update, *executor).run();
  } else {
    splitop::UpdateRun<double>(*update, *executor).run();
  }
  return SPLITOP_OK;
}
