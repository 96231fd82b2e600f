// The activations of splitop/activation.h themselves, element by element. Free of branches and of
// library calls, so that the compiler makes vectors of them; NaN stays NaN.
#ifndef SPLITOP_KERNELS_CPU_ACTIVATION_VALUES_H_
#define SPLITOP_KERNELS_CPU_ACTIVATION_VALUES_H_

#include "kernels/activation_gradients.h"
#include "kernels/elementary.h"
#include "kernels/host_device.h"
#include "splitop/activation.h"

namespace splitop {

// Whether the activation's gradient reads its output; else its input. Linear: neither.
constexpr bool gradient_reads_output(splitop_activation activation) {
  switch (activation) {
    case SPLITOP_RELU:
    case SPLITOP_RELU6:
    case SPLITOP_ELU:
    case SPLITOP_SELU:
    case SPLITOP_TANH:
    case SPLITOP_SIGMOID:
      return true;
    default:
      return false;
  }
}

template <splitop_activation A, typename T>
SPLITOP_HOST_DEVICE T activation_value(T z, T alpha) {
  if constexpr (A == SPLITOP_RELU) {
    return z < T(0) ? T(0) : z;
  } else if constexpr (A == SPLITOP_RELU6) {
    return z < T(0) ? T(0) : (z > T(6) ? T(6) : z);
  } else if constexpr (A == SPLITOP_LEAKY_RELU) {
    return z > T(0) ? z : alpha * z;
  } else if constexpr (A == SPLITOP_ELU) {
    return z < T(0) ? exponential_minus_one(z) : z;
  } else if constexpr (A == SPLITOP_SELU) {
    return z < T(0) ? T(kSeluScaleAlpha) * exponential_minus_one(z) : T(kSeluScale) * z;
  } else if constexpr (A == SPLITOP_TANH) {
    const T e = exponential_minus_one(T(-2) * (z < T(0) ? -z : z));
    const T y = e / (T(2) + e);
    return z < T(0) ? y : -y;
  } else if constexpr (A == SPLITOP_SIGMOID) {
    return T(1) / (T(1) + exponential(-z));
  } else if constexpr (A == SPLITOP_SOFTPLUS) {
    return (z < T(0) ? T(0) : z) + logarithm_of_one_plus(exponential(z < T(0) ? z : -z));
  } else if constexpr (A == SPLITOP_SILU) {
    return z / (T(1) + exponential(-z));
  } else if constexpr (A == SPLITOP_GELU) {
    return z * normal_cdf(z, bell(z));
  } else {
    return z;
  }
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ACTIVATION_VALUES_H_
