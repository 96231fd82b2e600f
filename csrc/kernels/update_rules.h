// The optimizer update rules of splitop/update_rule.h: one weight, its slots, its gradient.
// One definition, compiled for the host and the device.
//
// A rule is constructed from the hyperparameters in the order of the public header and
// applied as rule(g, gg, w, s0, s1, s2). gg is g * g, or the sum of the squares of the terms of g:
// then the rule must have kSumsSquares. Slots beyond kNumSlots are neither read nor written.
//
// For a rule with kRowwise gg is the mean of g * g over the row, and the slots are those of the
// row. They come from gg alone, so that each element of the row may work them out from what they
// were.
#ifndef SPLITOP_KERNELS_UPDATE_RULES_H_
#define SPLITOP_KERNELS_UPDATE_RULES_H_

#include <math.h>

#include "kernels/host_device.h"
#include "splitop/update_rule.h"

namespace splitop {

SPLITOP_HOST_DEVICE float square_root(float x) { return sqrtf(x); }
SPLITOP_HOST_DEVICE double square_root(double x) { return sqrt(x); }
SPLITOP_HOST_DEVICE float power(float x, float exponent) { return powf(x, exponent); }
SPLITOP_HOST_DEVICE double power(double x, double exponent) { return pow(x, exponent); }

// The larger of the two; NaN if either is.
template <typename T>
SPLITOP_HOST_DEVICE T larger(T a, T b) {
  return a > b || a != a ? a : b;
}

// -1, 0 or 1; NaN of NaN.
template <typename T>
SPLITOP_HOST_DEVICE T sign(T x) {
  return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;
}

// What all rules begin with.
template <typename T>
struct WeightDecay {
  static constexpr bool kSumsSquares = true;  // g * g is all that is not linear in g
  static constexpr bool kRowwise = false;

  T decay;

  SPLITOP_HOST_DEVICE WeightDecay(const T* hyper, bool decayed)
      : decay(decayed ? hyper[0] : T(0)) {}

  SPLITOP_HOST_DEVICE void apply_decay(T& w) const { w -= decay * w; }
};

template <typename T>
struct SgdRule : WeightDecay<T> {
  static constexpr const char* kName = "sgd";
  static constexpr int kNumSlots = 0;
  static constexpr int kNumHyper = 2;

  T lr;

  SPLITOP_HOST_DEVICE SgdRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed), lr(hyper[1]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T, T& w, T&, T&, T&) const {
    this->apply_decay(w);
    w -= lr * g;
  }
};

template <typename T>
struct MomentumRule : WeightDecay<T> {
  static constexpr const char* kName = "momentum";
  static constexpr int kNumSlots = 1;
  static constexpr int kNumHyper = 5;

  T momentum, gradient_scale, slot_step, gradient_step;

  SPLITOP_HOST_DEVICE MomentumRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        momentum(hyper[1]),
        gradient_scale(hyper[2]),
        slot_step(hyper[3]),
        gradient_step(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T, T& w, T& m, T&, T&) const {
    this->apply_decay(w);
    m = momentum * m + gradient_scale * g;
    // Without Nesterov's look ahead it is 0, which times an infinite g would be NaN.
    const T ahead = gradient_step != T(0) ? gradient_step * g : T(0);
    w += slot_step * m + ahead;
  }
};

template <typename T>
struct AdamRule : WeightDecay<T> {
  static constexpr const char* kName = "adam";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 5;

  T step_size, one_minus_beta1, one_minus_beta2, epsilon;

  SPLITOP_HOST_DEVICE AdamRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        step_size(hyper[1]),
        one_minus_beta1(hyper[2]),
        one_minus_beta2(hyper[3]),
        epsilon(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& m, T& v, T&) const {
    this->apply_decay(w);
    m += (g - m) * one_minus_beta1;
    v += (gg - v) * one_minus_beta2;
    w -= (m * step_size) / (square_root(v) + epsilon);
  }
};

template <typename T>
struct AmsgradRule : AdamRule<T> {
  static constexpr const char* kName = "amsgrad";
  static constexpr int kNumSlots = 3;

  using AdamRule<T>::AdamRule;

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& m, T& v, T& v_hat) const {
    this->apply_decay(w);
    m += (g - m) * this->one_minus_beta1;
    v += (gg - v) * this->one_minus_beta2;
    v_hat = larger(v_hat, v);
    w -= (m * this->step_size) / (square_root(v_hat) + this->epsilon);
  }
};

template <typename T>
struct AdagradRule : WeightDecay<T> {
  static constexpr const char* kName = "adagrad";
  static constexpr int kNumSlots = 1;
  static constexpr int kNumHyper = 3;

  T lr, epsilon;

  SPLITOP_HOST_DEVICE AdagradRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed), lr(hyper[1]), epsilon(hyper[2]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& a, T&, T&) const {
    this->apply_decay(w);
    a += gg;
    w -= (lr * g) / square_root(a + epsilon);
  }
};

template <typename T>
struct RmspropRule : WeightDecay<T> {
  static constexpr const char* kName = "rmsprop";
  static constexpr int kNumSlots = 1;
  static constexpr int kNumHyper = 4;

  T lr, one_minus_rho, epsilon;

  SPLITOP_HOST_DEVICE RmspropRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed), lr(hyper[1]), one_minus_rho(hyper[2]), epsilon(hyper[3]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& v, T&, T&) const {
    this->apply_decay(w);
    w -= step(g, gg, v);
  }

  SPLITOP_HOST_DEVICE T step(T g, T gg, T& v) const {
    v += (gg - v) * one_minus_rho;
    return (lr * g) / square_root(v + epsilon);
  }

  SPLITOP_HOST_DEVICE T centered_step(T g, T gg, T& v, T& a) const {
    v += (gg - v) * one_minus_rho;
    a += (g - a) * one_minus_rho;
    return (lr * g) / square_root(v - a * a + epsilon);
  }
};

template <typename T>
struct RmspropMomentumRule : RmspropRule<T> {
  static constexpr const char* kName = "rmsprop_momentum";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 5;

  T momentum;

  SPLITOP_HOST_DEVICE RmspropMomentumRule(const T* hyper, bool decayed)
      : RmspropRule<T>(hyper, decayed), momentum(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& v, T& b, T&) const {
    this->apply_decay(w);
    b = momentum * b + this->step(g, gg, v);
    w -= b;
  }
};

template <typename T>
struct RmspropCenteredRule : RmspropRule<T> {
  static constexpr const char* kName = "rmsprop_centered";
  static constexpr int kNumSlots = 2;

  using RmspropRule<T>::RmspropRule;

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& v, T& a, T&) const {
    this->apply_decay(w);
    w -= this->centered_step(g, gg, v, a);
  }
};

template <typename T>
struct RmspropCenteredMomentumRule : RmspropMomentumRule<T> {
  static constexpr const char* kName = "rmsprop_centered_momentum";
  static constexpr int kNumSlots = 3;

  using RmspropMomentumRule<T>::RmspropMomentumRule;

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& v, T& a, T& b) const {
    this->apply_decay(w);
    b = this->momentum * b + this->centered_step(g, gg, v, a);
    w -= b;
  }
};

template <typename T>
struct AdadeltaRule : WeightDecay<T> {
  static constexpr const char* kName = "adadelta";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 4;
  static constexpr bool kSumsSquares = false;

  T lr, one_minus_rho, epsilon;

  SPLITOP_HOST_DEVICE AdadeltaRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed), lr(hyper[1]), one_minus_rho(hyper[2]), epsilon(hyper[3]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& a, T& d, T&) const {
    this->apply_decay(w);
    a += (gg - a) * one_minus_rho;
    const T step = (square_root(d + epsilon) * g) / square_root(a + epsilon);
    d += (step * step - d) * one_minus_rho;
    w -= lr * step;
  }
};

template <typename T>
struct AdamaxRule : WeightDecay<T> {
  static constexpr const char* kName = "adamax";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 5;
  static constexpr bool kSumsSquares = false;

  T step_size, one_minus_beta1, beta2, epsilon;

  SPLITOP_HOST_DEVICE AdamaxRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        step_size(hyper[1]),
        one_minus_beta1(hyper[2]),
        beta2(hyper[3]),
        epsilon(hyper[4]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T, T& w, T& m, T& u, T&) const {
    this->apply_decay(w);
    m += (g - m) * one_minus_beta1;
    u = larger(beta2 * u, g < T(0) ? -g : g);
    w -= (step_size * m) / (u + epsilon);
  }
};

template <typename T>
struct NadamRule : WeightDecay<T> {
  static constexpr const char* kName = "nadam";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 7;

  T slot_step, gradient_step, one_minus_beta1, one_minus_beta2, v_scale, epsilon;

  SPLITOP_HOST_DEVICE NadamRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        slot_step(hyper[1]),
        gradient_step(hyper[2]),
        one_minus_beta1(hyper[3]),
        one_minus_beta2(hyper[4]),
        v_scale(hyper[5]),
        epsilon(hyper[6]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& m, T& v, T&) const {
    this->apply_decay(w);
    m += (g - m) * one_minus_beta1;
    v += (gg - v) * one_minus_beta2;
    w -= (slot_step * m + gradient_step * g) / (square_root(v * v_scale) + epsilon);
  }
};

template <typename T>
struct FtrlRule : WeightDecay<T> {
  static constexpr const char* kName = "ftrl";
  static constexpr int kNumSlots = 2;
  static constexpr int kNumHyper = 6;

  T lr, exponent, l1, twice_l2, twice_shrinkage;

  SPLITOP_HOST_DEVICE FtrlRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        lr(hyper[1]),
        exponent(hyper[2]),
        l1(hyper[3]),
        twice_l2(hyper[4]),
        twice_shrinkage(hyper[5]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& a, T& z, T&) const {
    this->apply_decay(w);
    const T before = raise(a);
    a += gg;
    const T after = raise(a);
    z += g + twice_shrinkage * w - (after - before) / lr * w;
    const T clipped = z > l1 ? l1 : z < -l1 ? -l1 : z;
    w = (clipped - z) / (after / lr + twice_l2);
  }

  // The usual exponent by far.
  SPLITOP_HOST_DEVICE T raise(T a) const {
    return exponent == T(0.5) ? square_root(a) : power(a, exponent);
  }
};

template <typename T>
struct LionRule : WeightDecay<T> {
  static constexpr const char* kName = "lion";
  static constexpr int kNumSlots = 1;
  static constexpr int kNumHyper = 6;

  T lr, beta1, one_minus_beta1, beta2, one_minus_beta2;

  SPLITOP_HOST_DEVICE LionRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed),
        lr(hyper[1]),
        beta1(hyper[2]),
        one_minus_beta1(hyper[3]),
        beta2(hyper[4]),
        one_minus_beta2(hyper[5]) {}

  SPLITOP_HOST_DEVICE void operator()(T g, T, T& w, T& m, T&, T&) const {
    this->apply_decay(w);
    w -= lr * sign(beta1 * m + one_minus_beta1 * g);
    m = beta2 * m + one_minus_beta2 * g;
  }
};

template <typename T>
struct RowwiseAdagradRule : WeightDecay<T> {
  static constexpr const char* kName = "rowwise_adagrad";
  static constexpr int kNumSlots = 1;
  static constexpr int kNumHyper = 3;
  static constexpr bool kSumsSquares = false;
  static constexpr bool kRowwise = true;

  T lr, epsilon;

  SPLITOP_HOST_DEVICE RowwiseAdagradRule(const T* hyper, bool decayed)
      : WeightDecay<T>(hyper, decayed), lr(hyper[1]), epsilon(hyper[2]) {}

  // The quotient is the same for all elements of a row.
  SPLITOP_HOST_DEVICE void operator()(T g, T gg, T& w, T& a, T&, T&) const {
    this->apply_decay(w);
    a += gg;
    w -= lr / (square_root(a) + epsilon) * g;
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
    case SPLITOP_AMSGRAD:
      return f(RuleTag<AmsgradRule<T>>());
    case SPLITOP_ADAGRAD:
      return f(RuleTag<AdagradRule<T>>());
    case SPLITOP_RMSPROP:
      return f(RuleTag<RmspropRule<T>>());
    case SPLITOP_RMSPROP_MOMENTUM:
      return f(RuleTag<RmspropMomentumRule<T>>());
    case SPLITOP_RMSPROP_CENTERED:
      return f(RuleTag<RmspropCenteredRule<T>>());
    case SPLITOP_RMSPROP_CENTERED_MOMENTUM:
      return f(RuleTag<RmspropCenteredMomentumRule<T>>());
    case SPLITOP_ADADELTA:
      return f(RuleTag<AdadeltaRule<T>>());
    case SPLITOP_ADAMAX:
      return f(RuleTag<AdamaxRule<T>>());
    case SPLITOP_NADAM:
      return f(RuleTag<NadamRule<T>>());
    case SPLITOP_FTRL:
      return f(RuleTag<FtrlRule<T>>());
    case SPLITOP_LION:
      return f(RuleTag<LionRule<T>>());
    case SPLITOP_ROWWISE_ADAGRAD:
      return f(RuleTag<RowwiseAdagradRule<T>>());
    default:
      __builtin_unreachable();
  }
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_UPDATE_RULES_H_
