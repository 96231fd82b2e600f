// The activation gradients of splitop/activation.h, element by element.
// One definition, compiled for the host and the device.
#ifndef SPLITOP_KERNELS_ACTIVATION_GRADIENTS_H_
#define SPLITOP_KERNELS_ACTIVATION_GRADIENTS_H_

#include "kernels/elementary.h"
#include "kernels/host_device.h"
#include "splitop/activation.h"

namespace splitop {

// Constants of "Self-Normalizing Neural Networks" (Klambauer et al., 2017).
constexpr double kSeluScale = 1.0507009873554804934193349852946;
constexpr double kSeluScaleAlpha = 1.7580993408473768599402175208123;

constexpr double kNormalDensity = 0.3989422804014326779399461;  // at 0: 1 / sqrt(2 pi)

// dL/dz from g = dL/dy and the activation's reference r.
template <splitop_activation A, typename T>
SPLITOP_HOST_DEVICE T activation_gradient(T g, T r, T alpha) {
  if constexpr (A == SPLITOP_RELU) {
    return g * T(r > T(0));  // a product, as in TensorFlow: NaN and Inf stay seen
  } else if constexpr (A == SPLITOP_RELU6) {
    return g * T(r > T(0) && r < T(6));
  } else if constexpr (A == SPLITOP_LEAKY_RELU) {
    return r > T(0) ? g : alpha * g;
  } else if constexpr (A == SPLITOP_ELU) {
    return r < T(0) ? (r + T(1)) * g : g;
  } else if constexpr (A == SPLITOP_SELU) {
    return r < T(0) ? (r + T(kSeluScaleAlpha)) * g : T(kSeluScale) * g;
  } else if constexpr (A == SPLITOP_TANH) {
    return (T(1) - r * r) * g;
  } else if constexpr (A == SPLITOP_SIGMOID) {
    return r * (T(1) - r) * g;
  } else if constexpr (A == SPLITOP_SOFTPLUS) {
    return g / (T(1) + exponential(-r));
  } else if constexpr (A == SPLITOP_SILU) {
    const T e = exponential(r < T(0) ? r : -r);
    const T larger = T(1) / (T(1) + e);  // of s and 1 - s, so that neither is a difference
    const T s = r < T(0) ? e * larger : larger;
    const T rest = r < T(0) ? larger : e * larger;
    return s * (T(1) + r * rest) * g;
  } else if constexpr (A == SPLITOP_GELU) {
    const T b = bell(r);
    return (normal_cdf(r, b) + r * (T(kNormalDensity) * b)) * g;
  } else {
    return g;
  }
}

template <splitop_activation A>
struct ActivationTag {
  static constexpr splitop_activation kActivation = A;
};

// Calls f(ActivationTag<A>()) for the activation A; does nothing where it is linear.
template <typename F>
SPLITOP_HOST_DEVICE void with_activation(splitop_activation activation, const F& f) {
  switch (activation) {
    case SPLITOP_RELU:
      return f(ActivationTag<SPLITOP_RELU>());
    case SPLITOP_RELU6:
      return f(ActivationTag<SPLITOP_RELU6>());
    case SPLITOP_LEAKY_RELU:
      return f(ActivationTag<SPLITOP_LEAKY_RELU>());
    case SPLITOP_ELU:
      return f(ActivationTag<SPLITOP_ELU>());
    case SPLITOP_SELU:
      return f(ActivationTag<SPLITOP_SELU>());
    case SPLITOP_TANH:
      return f(ActivationTag<SPLITOP_TANH>());
    case SPLITOP_SIGMOID:
      return f(ActivationTag<SPLITOP_SIGMOID>());
    case SPLITOP_SOFTPLUS:
      return f(ActivationTag<SPLITOP_SOFTPLUS>());
    case SPLITOP_SILU:
      return f(ActivationTag<SPLITOP_SILU>());
    case SPLITOP_GELU:
      return f(ActivationTag<SPLITOP_GELU>());
    default:
      return;
  }
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_ACTIVATION_GRADIENTS_H_
