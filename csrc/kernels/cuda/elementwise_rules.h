// The update rules that treat each weight by itself: all but the row-wise ones, which CPUs have.
#ifndef SPLITOP_KERNELS_CUDA_ELEMENTWISE_RULES_H_
#define SPLITOP_KERNELS_CUDA_ELEMENTWISE_RULES_H_

#include "kernels/update_rules.h"
#include "splitop/status.h"

namespace splitop::cuda {

// Calls f(RuleTag<R>()), which returns a status, for the rule's struct R.
template <typename T, typename F>
splitop_status with_elementwise_rule(splitop_update_rule rule, const F& f) {
  return with_update_rule<T>(rule, [&](auto tag) -> splitop_status {
    if constexpr (!decltype(tag)::Rule::kRowwise) return f(tag);
    return SPLITOP_UNSUPPORTED;
  });
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_ELEMENTWISE_RULES_H_
