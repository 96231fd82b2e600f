// The optimizer update rules of splitop/update_rule.h: one weight, its slots, its gradient.
// One definition, compiled for the host and the device.
//
// A rule is constructed from the hyperparameters in the order of the public header and
// applied as rule(g, w, m, v). Slots beyond kNumSlots are neither read nor written.
#ifndef SPLITOP_KERNELS_UPDATE_RULES_H_
#define SPLITOP_KERNELS_UPDATE_RULES_H_

#include <math.h>

#include "kernels/host_device.h"
#include "splitop/update_rule.h"

namespace splitop {

SPLITOP_HOST_DEVICE float square_root(float x) { return sqrtf(x); }
SPLITOP_HOST_DEVICE double square_root(double x) { return sqrt(x); }

template <typename T>
struct SgdRule {
  static constexpr int kNumSlots = 0;

  T decay, lr;

  SPLITOP_HOST_DEVICE SgdRule(const T* hyper, bool decayed)
      : decay(decayed ? hyper[0] : T(0)), lr(hyper[1]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T& w, T&, T&) const {
    w -= decay * w;
    w -= lr * g;
  }
};

template <typename T>
struct MomentumRule {
  static constexpr int kNumSlots = 1;

  T decay, momentum, gradient_scale, slot_step, gradient_step;

  SPLITOP_HOST_DEVICE MomentumRule(const T* hyper, bool decayed)
      : decay(decayed ? hyper[0] : T(0)),
        momentum(hyper[1]),
        gradient_scale(hyper[2]),
        slot_step(hyper[3]),
        gradient_step(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T& w, T& m, T&) const {
    w -= decay * w;
    m = momentum * m + gradient_scale * g;
    w += slot_step * m + gradient_step * g;
  }
};

template <typename T>
struct AdamRule {
  static constexpr int kNumSlots = 2;

  T decay, step_size, one_minus_beta1, one_minus_beta2, epsilon;

  SPLITOP_HOST_DEVICE AdamRule(const T* hyper, bool decayed)
      : decay(decayed ? hyper[0] : T(0)),
        step_size(hyper[1]),
        one_minus_beta1(hyper[2]),
        one_minus_beta2(hyper[3]),
        epsilon(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T& w, T& m, T& v) const {
    w -= decay * w;
    m += (g - m) * one_minus_beta1;
    v += (g * g - v) * one_minus_beta2;
    w -= (m * step_size) / (square_root(v) + epsilon);
  }
};

template <typename Rule_>
struct RuleTag {
  using Rule = Rule_;
};

// Calls f(RuleTag<R>()) for the rule's struct R. `rule` is a known one.
template <typename T, typename F>
auto with_update_rule(splitop_update_rule rule, const F& f) {
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

}  // namespace splitop

#endif  // SPLITOP_KERNELS_UPDATE_RULES_H_
