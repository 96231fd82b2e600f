// The update rules that the fused weight update is compiled for.
//
// Each costs dozens of kernels, so these are the common ones. Other rules are applied by the
// multi-tensor update, to gradients in memory.
#ifndef SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_
#define SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_

#include "kernels/update_rules.h"
#include "splitop/status.h"

namespace splitop::cuda {

template <typename Rule>
constexpr bool kIsChainRule = false;
template <typename T>
constexpr bool kIsChainRule<SgdRule<T>> = true;
template <typename T>
constexpr bool kIsChainRule<MomentumRule<T>> = true;
template <typename T>
constexpr bool kIsChainRule<AdamRule<T>> = true;

inline bool is_chain_rule(splitop_update_rule rule) {
  return with_update_rule<float>(
      rule, [](auto tag) { return kIsChainRule<typename decltype(tag)::Rule>; });
}

// Calls f(RuleTag<R>()), which returns a status, for the rule's struct R.
template <typename T, typename F>
splitop_status with_chain_rule(splitop_update_rule rule, const F& f) {
  return with_update_rule<T>(rule, [&](auto tag) -> splitop_status {
    if constexpr (kIsChainRule<typename decltype(tag)::Rule>) return f(tag);
    return SPLITOP_UNSUPPORTED;
  });
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_CHAIN_RULES_H_
