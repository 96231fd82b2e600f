// An update rule applied to elements of a variable, compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_
#define SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"
#include "kernels/gradient_clip.h"
#include "kernels/update_rules.h"
#include "splitop/update_rule.h"

namespace splitop {
namespace {

template <typename Rule, typename T>
void update_row(const Rule& rule, int64_t count, const T* __restrict g, T* __restrict w,
                T* __restrict s0, T* __restrict s1, T* __restrict s2) {
  for (int64_t j = 0; j < count; ++j) rule(g[j], g[j] * g[j], w[j], s0[j], s1[j], s2[j]);
}

// The same with the squares of the gradient apart.
template <typename Rule, typename T>
void update_row_with_squares(const Rule& rule, int64_t count, const T* __restrict g,
                             const T* __restrict gg, T* __restrict w, T* __restrict s0,
                             T* __restrict s1, T* __restrict s2) {
  for (int64_t j = 0; j < count; ++j) rule(g[j], gg[j], w[j], s0[j], s1[j], s2[j]);
}

// The same with a gradient of zeros.
template <typename Rule, typename T>
void update_row_without_gradient(const Rule& rule, int64_t count, T* __restrict w, T* __restrict s0,
                                 T* __restrict s1, T* __restrict s2) {
  for (int64_t j = 0; j < count; ++j) rule(T(0), T(0), w[j], s0[j], s1[j], s2[j]);
}

// Where a variable and its slots are. Slots that the rule lacks are never touched: w stands in
// for their addresses.
template <typename Rule, typename T>
struct Elements {
  T* w;
  T* s0;
  T* s1;
  T* s2;

  Elements(const splitop_variable& variable, int64_t offset) : Elements(variable, offset, offset) {}

  Elements(const splitop_variable& variable, int64_t offset, int64_t slot_offset)
      : w(static_cast<T*>(variable.value) + offset),
        s0(Rule::kNumSlots > 0 ? static_cast<T*>(variable.slots[0]) + slot_offset : w),
        s1(Rule::kNumSlots > 1 ? static_cast<T*>(variable.slots[1]) + slot_offset : w),
        s2(Rule::kNumSlots > 2 ? static_cast<T*>(variable.slots[2]) + slot_offset : w) {}
};

constexpr int64_t kClippedElements = 256;  // of a gradient that are held at a time

template <typename T>
void clip_gradient(const GradientClip<T>& clip, int64_t count, const T* __restrict g,
                   T* __restrict clipped) {
  for (int64_t j = 0; j < count; ++j) clipped[j] = clip(g[j]);
}

template <typename Rule, typename T>
void update_clipped(const Rule& rule, const splitop_variable& variable, int64_t offset,
                    int64_t count, const T* g) {
  const GradientClip<T> clip(static_cast<const T*>(variable.clip));
  alignas(kVectorBytes) T clipped[kClippedElements];
  for (int64_t first = 0; first < count; first += kClippedElements) {
    const int64_t left = count - first;
    const int64_t block = left < kClippedElements ? left : kClippedElements;
    clip_gradient(clip, block, g + first, clipped);
    const Elements<Rule, T> at(variable, offset + first);
    update_row(rule, block, clipped, at.w, at.s0, at.s1, at.s2);
  }
}

// Updates `count` elements of a variable, from `offset` on. To a row-wise rule they are rows.
template <typename Rule, typename T>
void update_variable(const splitop_variable& variable, const T* hyper, int64_t offset,
                     int64_t count, const T* g) {
  const Rule rule(hyper, variable.decayed != 0);
  if (variable.clip != nullptr) return update_clipped(rule, variable, offset, count, g);
  const Elements<Rule, T> at(variable, offset);
  update_row(rule, count, g, at.w, at.s0, at.s1, at.s2);
}

template <typename T>
void update_variable(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                     int64_t offset, int64_t count, const T* g) {
  with_update_rule<T>(rule, [&](auto tag) {
    update_variable<typename decltype(tag)::Rule>(variable, hyper, offset, count, g);
  });
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_
