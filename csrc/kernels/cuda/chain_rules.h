// The update rules that the fused weight update is compiled for.
//
// Each costs dozens of kernels, so these are the common ones. Other rules are applied by the
// multi-tensor update, to gradients in memory.
#ifndef SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_
#define SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_

#include <algorithm>
#include <iterator>

#include "kernels/update_rules.h"

namespace splitop::cuda {

constexpr splitop_update_rule kChainRules[] = {SPLITOP_SGD, SPLITOP_MOMENTUM, SPLITOP_ADAM};

inline bool is_chain_rule(splitop_update_rule rule) {
  return std::find(std::begin(kChainRules), std::end(kChainRules), rule) != std::end(kChainRules);
}

// Calls f(RuleTag<R>()) for the rule's struct R. `rule` is a chain rule.
template <typename T, typename F>
auto with_chain_rule(splitop_update_rule rule, const F& f) {
  switch (rule) {
    case SPLITOP_SGD:
      return f(RuleTag<SgdRule<T>>());
    case SPLITOP_MOMENTUM:
      return f(RuleTag<MomentumRule<T>>());
    case SPLITOP_ADAM:
      return f(RuleTag<AdamRule<T>>());
    default:
      __builtin_unreachable();
  }
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_
