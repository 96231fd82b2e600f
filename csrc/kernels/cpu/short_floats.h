// To and from elements of 16 bits, by integer arithmetic without branches: loops over these become
// vectors in every instruction set.
#ifndef SPLITOP_KERNELS_CPU_SHORT_FLOATS_H_
#define SPLITOP_KERNELS_CPU_SHORT_FLOATS_H_

#include <stdint.h>

#include "kernels/element.h"
#include "kernels/elementary.h"
#include "kernels/host_device.h"

namespace splitop {

template <typename E>
constexpr bool kIsShort = sizeof(E) == 2;

SPLITOP_HOST_DEVICE float widen(float x) { return x; }
SPLITOP_HOST_DEVICE double widen(double x) { return x; }

SPLITOP_HOST_DEVICE float widen(bfloat16 x) {
  return from_bits<float>(static_cast<uint32_t>(x.bits) << 16);
}

// No subnormal float is worked with, as TensorFlow's threads take those for 0.
SPLITOP_HOST_DEVICE float widen(float16 x) {
  constexpr uint32_t kRebias = (127 - 15) << 23;
  constexpr uint32_t kSmallestNormal = (127 - 14) << 23;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t exponent = magnitude & 0x0f800000;
  const uint32_t normal = magnitude + (exponent == 0x0f800000 ? 2 * kRebias : kRebias);
  const float subnormal =
      from_bits<float>(magnitude + kSmallestNormal) - from_bits<float>(kSmallestNormal);
  return from_bits<float>(sign | (exponent == 0 ? bits_of(subnormal) : normal));
}

// Rounds to nearest even; NaN becomes a quiet one.
template <typename E>
SPLITOP_HOST_DEVICE E narrow(Accumulator<E> x) {
  return x;
}

template <>
SPLITOP_HOST_DEVICE bfloat16 narrow<bfloat16>(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return {static_cast<uint16_t>((is_nan ? bits | 0x400000 : rounded) >> 16)};
}

template <>
SPLITOP_HOST_DEVICE float16 narrow<float16>(float x) {
  constexpr uint32_t kRebias = (127 - 15) << 23;
  constexpr uint32_t kSmallestNormal = (127 - 14) << 23;
  constexpr uint32_t kTooLarge = (127 + 16) << 23;  // 2^16; what rounds up to it becomes Inf, too
  constexpr uint32_t kHalf = 126 << 23;  // the last bit of its mantissa is the smallest subnormal
  const uint32_t sign = bits_of(x) >> 16 & 0x8000;
  const uint32_t magnitude = bits_of(x) & 0x7fffffff;
  const uint32_t normal = (magnitude - kRebias + 0xfff + (magnitude >> 13 & 1)) >> 13;
  const uint32_t subnormal = bits_of(from_bits<float>(magnitude) + 0.5f) - kHalf;
  const uint32_t not_finite = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  const uint32_t finite = magnitude < kSmallestNormal ? subnormal : normal;
  return {static_cast<uint16_t>(sign | (magnitude >= kTooLarge ? not_finite : finite))};
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_SHORT_FLOATS_H_
