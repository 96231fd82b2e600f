// The number formats of tensor cores, by their bits.
#ifndef SPLITOP_EMULATION_FLOATS_H_
#define SPLITOP_EMULATION_FLOATS_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

namespace splitop::emulation {

constexpr uint32_t kInfinity = 0x7f800000u;
constexpr uint32_t kMagnitude = 0x7fffffffu;

inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

// Without the 13 low bits of the significand, as a tensor core reads it.
inline float tf32_to_float(uint32_t bits) { return float_of(bits & 0xffffe000u); }

// To nearest, ties away from zero; beyond the largest number to infinity.
inline uint32_t float_to_tf32(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & kMagnitude) > kInfinity) return kMagnitude;  // NaN
  return (bits + 0x1000u) & 0xffffe000u;
}

inline float bfloat16_to_float(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

// To nearest, ties to even.
inline uint16_t float_to_bfloat16(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & kMagnitude) > kInfinity) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

inline float float16_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = bits >> 10 & 31;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormal numbers: multiples of 2^-24
    return float_of(sign | bits_of(ldexpf(static_cast<float>(fraction), -24)));
  }
  if (exponent == 31) return float_of(sign | kInfinity | fraction << 13);
  return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

// To nearest, ties to even; 65520 and more to infinity.
inline uint16_t float_to_float16(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & kMagnitude;
  if (magnitude > kInfinity) return 0x7fff;
  uint32_t rounded;
  if (magnitude >= bits_of(65520.0f)) {
    rounded = 0x7c00u;
  } else if (magnitude < bits_of(ldexpf(1.0f, -14))) {
    rounded = static_cast<uint32_t>(lrintf(ldexpf(float_of(magnitude), 24)));
  } else {
    rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  }
  return static_cast<uint16_t>(sign | rounded);
}

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_FLOATS_H_
