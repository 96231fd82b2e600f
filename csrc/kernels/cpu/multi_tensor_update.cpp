// The update of many variables on CPUs: blocks of elements, whichever variable they belong to. A
// row-wise rule takes whole rows, but rows of one element are elements.
#include "splitop/multi_tensor_update.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

constexpr int64_t kBlockElements = 1 << 14;  // a task; with Adam 256 KB move

template <typename T>
class UpdateRun {
 public:
  UpdateRun(const splitop_multi_tensor_update& update, const splitop_executor& executor)
      : kernels_(dense_chain_kernels<T>()),
        update_(update),
        executor_(executor),
        rowwise_(splitop_is_rowwise(update.rule) != 0) {
    for (int32_t i = 0; i < update.num_tensors; ++i) {
      const splitop_tensor_update& tensor = update.tensors[i];
      elements_ += tensor.count;
      blocks_.add(ceil_div(units(tensor), block_units(tensor)));
    }
  }

  void run() const {
    if (elements_ == 0) return;
    const double flops = kFlopsPerElement * static_cast<double>(elements_);
    parallel_tasks(executor_, executor_.num_workers, blocks_.total(), flops,
                   [this](int64_t task, int32_t) { update_block(task); });
  }

 private:
  // Elements of what is updated as a whole.
  int64_t width(const splitop_tensor_update& tensor) const {
    return rowwise_ && tensor.count > 0 ? tensor.count / tensor.rows : 1;
  }

  int64_t units(const splitop_tensor_update& tensor) const { return tensor.count / width(tensor); }

  int64_t block_units(const splitop_tensor_update& tensor) const {
    return std::max<int64_t>(kBlockElements / width(tensor), 1);
  }

  void update_block(int64_t task) const {
    const auto [i, block] = blocks_.at(task);
    const splitop_tensor_update& tensor = update_.tensors[i];
    const int64_t begin = block * block_units(tensor);
    const int64_t end = std::min(begin + block_units(tensor), units(tensor));
    const int64_t width = this->width(tensor);
    const T* hyper = static_cast<const T*>(update_.hyper);
    const T* gradient = static_cast<const T*>(tensor.gradient) + begin * width;
    if (width == 1) {
      kernels_.update(update_.rule, tensor.variable, hyper, begin, end - begin, gradient);
    } else {
      kernels_.update_rows(update_.rule, tensor.variable, hyper, width, begin, end, gradient);
    }
  }

  const DenseChainKernels<T>& kernels_;
  const splitop_multi_tensor_update& update_;
  const splitop_executor& executor_;
  const bool rowwise_;
  Parts blocks_;
  int64_t elements_ = 0;
};

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_multi_tensor_update(const splitop_multi_tensor_update* update,
                                               const splitop_executor* executor) {
  if (!splitop::valid(update) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (update->gradient_dtype != update->variable_dtype) return SPLITOP_UNSUPPORTED;
  if (update->variable_dtype == SPLITOP_FLOAT32) {
    splitop::UpdateRun<float>(*update, *executor).run();
  } else {
    splitop::UpdateRun<double>(*update, *executor).run();
  }
  return SPLITOP_OK;
}
