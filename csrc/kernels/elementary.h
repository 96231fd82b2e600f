// Elementary functions, element by element: exact to a few units in the last place.
//
// On the host they are free of branches and of library calls, so that the compiler makes vectors
// of them.
#ifndef SPLITOP_KERNELS_ELEMENTARY_H_
#define SPLITOP_KERNELS_ELEMENTARY_H_

#include <math.h>
#include <stdint.h>

#include "kernels/host_device.h"

namespace splitop {

#ifdef __CUDA_ARCH__

SPLITOP_HOST_DEVICE float exponential(float x) { return expf(x); }
SPLITOP_HOST_DEVICE double exponential(double x) { return exp(x); }

// The density of the normal distribution is kNormalDensity * bell(x).
SPLITOP_HOST_DEVICE float bell(float x) { return expf(-x * x / 2); }
SPLITOP_HOST_DEVICE double bell(double x) { return exp(-x * x / 2); }

// The normal distribution up to x, given bell(x).
SPLITOP_HOST_DEVICE float normal_cdf(float x, float) { return normcdff(x); }
SPLITOP_HOST_DEVICE double normal_cdf(double x, double) { return normcdf(x); }

#else

template <typename T>
struct Elementary;

template <>
struct Elementary<float> {
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr Bits kExponentBias = 127;
  static constexpr Bits kUpperHalf = 0xfffff000;       // of a mantissa: its square is exact
  static constexpr float kRounder = 12582912.0f;       // 1.5 * 2^23: has no bits for fractions
  static constexpr float kLn2Upper = 0.693359375f;     // so few bits that multiples are exact
  static constexpr float kLn2Lower = -2.12194440e-4f;  // ln 2 less the above
  static constexpr float kLargest = 90;                // exp of it overflows, of its negative ...
  static constexpr float kSmallest = -106;             // ... exp of this one is 0
  static constexpr float kLeastNormal = -87;  // and of this one is about the least normal number
  static constexpr int kExpDegree = 7;
  static constexpr int kLogDegree = 7;
  static constexpr float kPole = 4;
  // (Phi(-a) / density(a) * density(0)) / t in powers of 2 t - 1, t = kPole / (kPole + a), on
  // 0 <= a <= 14.5: interpolated in Chebyshev's nodes, relative error 1.3e-8.
  static constexpr float kTail[] = {
      0.1888212846f,   0.1519741515f,     0.09678416995f,    0.04663075147f,  0.01510161744f,
      0.001881803228f, -0.0008808935141f, -0.0003923284113f, 4.870046279e-5f, 3.074578925e-5f};
};

template <>
struct Elementary<double> {
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr Bits kExponentBias = 1023;
  static constexpr Bits kUpperHalf = 0xfffffffff8000000;
  static constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2Upper = 6.93147180369123816490e-01;
  static constexpr double kLn2Lower = 1.90821492927058770002e-10;
  static constexpr double kLargest = 711;
  static constexpr double kSmallest = -747;
  static constexpr double kLeastNormal = -708;
  static constexpr int kExpDegree = 13;
  static constexpr int kLogDegree = 17;
  static constexpr double kPole = 5;
  // As above, on 0 <= a <= 39: relative error 3.7e-17.
  static constexpr double kTail[] = {
      0.15383860995001259321,     0.13307650057801135743,      0.099061123193994827192,
      0.062706631334259421262,    0.033004073234100138951,     0.01382372774129596381,
      0.0041590133595139712851,   0.00059867535381889456345,   -0.0001595738749782386653,
      -0.00010897981253917041158, -0.000011875173233472141836, 9.9525706330060271836e-6,
      3.336340721954535888e-6,    -7.9623654830651549212e-7,   -5.5406418882939045642e-7,
      6.7499304070492638144e-8,   8.6887814527529169495e-8,    -8.7516831965711497663e-9,
      -1.3335058678455143175e-8,  2.1236548348478752716e-9,    1.5260820835746364687e-9,
      -4.449877535432886583e-10};
};

template <typename T>
SPLITOP_HOST_DEVICE typename Elementary<T>::Bits bits_of(T x) {
  typename Elementary<T>::Bits bits;
  __builtin_memcpy(&bits, &x, sizeof(T));
  return bits;
}

template <typename T>
SPLITOP_HOST_DEVICE T from_bits(typename Elementary<T>::Bits bits) {
  T x;
  __builtin_memcpy(&x, &bits, sizeof(T));
  return x;
}

template <typename T>
SPLITOP_HOST_DEVICE T nearest_integer(T x) {
  return (x + Elementary<T>::kRounder) - Elementary<T>::kRounder;
}

// 2^n of an integer that is the exponent of a normal number.
template <typename T>
SPLITOP_HOST_DEVICE T power_of_two(T n) {
  using E = Elementary<T>;
  return from_bits<T>((bits_of<T>(n + E::kRounder) + E::kExponentBias) << E::kMantissaBits);
}

// 1 / (k (k + 1) ... (k + terms - 1))
template <int k, int terms>
constexpr double kInverseProduct = kInverseProduct<k, terms - 1> / (k + terms - 1);
template <int k>
constexpr double kInverseProduct<k, 0> = 1;

// 1 + r/k + r^2/k(k+1) + ..., up to the power of kExpDegree for k = 1.
template <typename T, int k = 1, int power = 0>
SPLITOP_HOST_DEVICE T exponential_series(T r) {
  constexpr T coefficient = static_cast<T>(kInverseProduct<k, power>);
  if constexpr (k + power > Elementary<T>::kExpDegree) {
    return coefficient;
  } else {
    return coefficient + r * exponential_series<T, k, power + 1>(r);
  }
}

// exp(upper + lower), where lower is much the smaller one.
template <typename T>
SPLITOP_HOST_DEVICE T exponential_of_sum(T upper, T lower) {
  using E = Elementary<T>;
  const T n = nearest_integer((upper + lower) * T(1.44269504088896340736));
  const T r = (upper - n * E::kLn2Upper) - n * E::kLn2Lower + lower;
  // In two steps: 2^n may be no normal number where exp(x) is one, or is a subnormal one.
  const T half = nearest_integer(n * T(0.5));
  return exponential_series<T>(r) * power_of_two<T>(half) * power_of_two<T>(n - half);
}

template <typename T>
SPLITOP_HOST_DEVICE T exponential(T x) {
  using E = Elementary<T>;
  const T bounded = x > E::kLargest ? E::kLargest : (x < E::kSmallest ? E::kSmallest : x);
  return exponential_of_sum<T>(bounded, T(0));
}

// exp(x) for x <= 0; 0 below kLeastNormal.
template <typename T>
SPLITOP_HOST_DEVICE T exponential_up_to_one(T x) {
  using E = Elementary<T>;
  const T bounded = x < E::kLeastNormal ? E::kLeastNormal : x;
  const T n = nearest_integer(bounded * T(1.44269504088896340736));
  const T r = (bounded - n * E::kLn2Upper) - n * E::kLn2Lower;
  const T value = exponential_series<T>(r) * power_of_two<T>(n);
  return x < E::kLeastNormal ? T(0) : value;
}

// exp(x) - 1 for x <= 0; exact near 0, too.
template <typename T>
SPLITOP_HOST_DEVICE T exponential_minus_one(T x) {
  using E = Elementary<T>;
  const T bounded = x < T(-40) ? T(-40) : x;  // exp of it is less than half an ulp of 1
  const T n = nearest_integer(bounded * T(1.44269504088896340736));
  const T r = (bounded - n * E::kLn2Upper) - n * E::kLn2Lower;
  const T scale = power_of_two<T>(n);
  return scale * (r * exponential_series<T, 2>(r)) + (scale - T(1));
}

// 1 + u/3 + u^2/5 + ...
template <typename T, int k = 0>
SPLITOP_HOST_DEVICE T logarithm_series(T u) {
  constexpr T term = T(1) / T(2 * k + 1);
  if constexpr (k == Elementary<T>::kLogDegree) {
    return term;
  } else {
    return term + u * logarithm_series<T, k + 1>(u);
  }
}

// log(1 + x) for 0 <= x <= 1: twice the inverse hyperbolic tangent of x / (2 + x).
template <typename T>
SPLITOP_HOST_DEVICE T logarithm_of_one_plus(T x) {
  const T t = x / (T(2) + x);
  return T(2) * t * logarithm_series<T>(t * t);
}

// The density of the normal distribution is kNormalDensity * bell(x).
template <typename T>
SPLITOP_HOST_DEVICE T bell(T x) {
  using E = Elementary<T>;
  const T a = x < T(0) ? -x : x;
  const T bounded = a < T(48) ? a : T(48);
  const T upper = from_bits<T>(bits_of<T>(bounded) & E::kUpperHalf);
  const T lower = (bounded - upper) * (bounded + upper);
  const T square = upper * upper;
  const T largest = T(-2) * E::kSmallest;
  return exponential_of_sum<T>(T(-0.5) * (square < largest ? square : largest), T(-0.5) * lower);
}

template <typename T, int kFirst = 0>
SPLITOP_HOST_DEVICE T tail_polynomial(T u) {
  constexpr int kTerms = sizeof(Elementary<T>::kTail) / sizeof(T);
  constexpr T term = Elementary<T>::kTail[kFirst];
  if constexpr (kFirst + 1 == kTerms) {
    return term;
  } else {
    return term + u * tail_polynomial<T, kFirst + 1>(u);
  }
}

// The normal distribution up to x, given bell(x).
template <typename T>
SPLITOP_HOST_DEVICE T normal_cdf(T x, T bell_of_x) {
  using E = Elementary<T>;
  const T magnitude = x < T(0) ? -x : x;
  const T a = magnitude < T(48) ? magnitude : T(48);  // else Inf times the bell's 0
  const T scale = T(1) / (E::kPole + a);
  const T tail = bell_of_x * (E::kPole * scale) * tail_polynomial<T>((E::kPole - a) * scale);
  return x < T(0) ? tail : T(1) - tail;
}

#endif  // __CUDA_ARCH__

}  // namespace splitop

#endif  // SPLITOP_KERNELS_ELEMENTARY_H_
