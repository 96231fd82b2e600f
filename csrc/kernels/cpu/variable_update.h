// An update rule applied to elements of a variable, compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_
#define SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_

#include <stdint.h>

#include "kernels/cpu/cache_lines.h"
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

// The slots whose lines, in the pages of element e, and those of the weights or of a later slot
// push each other out of the cache: bit s is slot s.
template <typename Rule, typename T>
SPLITOP_INLINE uint32_t colliding_slots(const Elements<Rule, T>& at, int64_t e) {
  const T* const arrays[] = {at.s0, at.s1, at.s2};
  uint32_t slots = 0;
  for (int s = 0; s < Rule::kNumSlots; ++s) {
    bool any = same_way(arrays[s] + e, at.w + e);
    for (int t = s + 1; t < Rule::kNumSlots; ++t) any |= same_way(arrays[s] + e, arrays[t] + e);
    slots |= static_cast<uint32_t>(any) << s;
  }
  return slots;
}

// Whether collisions are worth a look: rows of so many elements of arrays whose lines share sets.
template <typename Rule, typename T>
bool may_collide(int64_t width, const Elements<Rule, T>& at) {
  if (width * sizeof(T) < kPageBytes / 4) return false;
  const T* const arrays[] = {at.w, at.s0, at.s1, at.s2};
  bool in_step = false;
  for (int a = 0; a < Rule::kNumSlots; ++a) {
    for (int b = a + 1; b <= Rule::kNumSlots; ++b) in_step |= share_sets(arrays[a], arrays[b]);
  }
  return in_step;
}

// Elements up to `end` are updated in one go, in copies of these slots.
struct Run {
  int64_t end;
  uint32_t copied;

  bool copies(int s) const { return copied >> s & 1; }
};

// The run from `begin` on: a page that collides, or all before the next one of these. Pages are cut
// at the end of a vector, as the last few elements of a loop may be rounded otherwise: results do
// not depend on addresses.
template <typename Rule, typename T>
__attribute__((noinline)) Run next_run(const Elements<Rule, T>& at, int64_t begin, int64_t last) {
  constexpr int64_t kSize = sizeof(T);
  for (int64_t e = begin; e < last;) {
    const int64_t bytes = kPageBytes - address_of(at.w + e) % kPageBytes;
    const int64_t end = min64(e + ceil_div(bytes, 64) * 64 / kSize, last);
    // By the middle of the page, as that of a slot may begin some lines before or behind it.
    const uint32_t slots = colliding_slots(at, e + (end - e) / 2);
    if (slots != 0) return e > begin ? Run{e, 0} : Run{end, slots};
    e = end;
  }
  return {last, 0};
}

// Elements [begin, last) by update(e, count, w, s0, s1, s2), which updates `count` of them from e
// on where it is told to: in place, or in copies of slots. looks: they may collide. The same loop
// updates both: of two the compiler may fuse a * b + c * d one way and the other.
template <typename Rule, typename T, typename Update>
SPLITOP_INLINE void update_apart(const Elements<Rule, T>& at, int64_t begin, int64_t last,
                                 bool looks, const Update& update) {
  alignas(kVectorBytes) T copies[SPLITOP_MAX_SLOTS][kPageBytes / sizeof(T)];
  while (begin < last) {
    const Run run = looks ? next_run(at, begin, last) : Run{last, 0};
    const int64_t bytes = (run.end - begin) * sizeof(T);
    const auto slot_or_copy = [&](int s, T* slot) {
      if (!run.copies(s)) return slot;
      __builtin_memcpy(copies[s], slot, bytes);
      return copies[s];
    };
    update(begin, run.end - begin, at.w + begin, slot_or_copy(0, at.s0 + begin),
           slot_or_copy(1, at.s1 + begin), slot_or_copy(2, at.s2 + begin));
    if (run.copies(0)) __builtin_memcpy(at.s0 + begin, copies[0], bytes);
    if (run.copies(1)) __builtin_memcpy(at.s1 + begin, copies[1], bytes);
    if (run.copies(2)) __builtin_memcpy(at.s2 + begin, copies[2], bytes);
    begin = run.end;
  }
}

// Updates elements [begin, last), whose gradient is g.
template <typename Rule, typename T>
SPLITOP_INLINE void update_elements(const Rule& rule, const Elements<Rule, T>& at, int64_t begin,
                                    int64_t last, const T* g, bool looks) {
  update_apart(at, begin, last, looks, [&](int64_t e, int64_t count, T* w, T* s0, T* s1, T* s2) {
    update_row(rule, count, g + (e - begin), w, s0, s1, s2);
  });
}

// The same with a gradient of zeros.
template <typename Rule, typename T>
SPLITOP_INLINE void update_elements_without_gradient(const Rule& rule, const Elements<Rule, T>& at,
                                                     int64_t begin, int64_t last, bool looks) {
  update_apart(at, begin, last, looks, [&](int64_t, int64_t count, T* w, T* s0, T* s1, T* s2) {
    update_row_without_gradient(rule, count, w, s0, s1, s2);
  });
}

constexpr int64_t kClippedElements = 256;  // of a gradient that are held at a time

template <typename T>
void clip_gradient(const GradientClip<T>& clip, int64_t count, const T* __restrict g,
                   T* __restrict clipped) {
  for (int64_t j = 0; j < count; ++j) clipped[j] = clip(g[j]);
}

template <typename Rule, typename T>
void update_clipped(const Rule& rule, const GradientClip<T>& clip, const Elements<Rule, T>& at,
                    int64_t begin, int64_t last, const T* g, bool looks) {
  alignas(kVectorBytes) T clipped[kClippedElements];
  while (begin < last) {
    const int64_t end = min64(begin + kClippedElements, last);
    clip_gradient(clip, end - begin, g, clipped);
    update_elements(rule, at, begin, end, clipped, looks);
    g += end - begin;
    begin = end;
  }
}

// Some of a variable's elements, from `offset` on: rows of `width`, `stride` apart, and their
// gradient's `g_stride`. To a row-wise rule each element is a row of the variable.
struct Block {
  int64_t offset, rows, width, stride, g_stride;

  bool in_one() const { return stride == width && g_stride == width; }
};

template <typename Rule, typename T>
void update_variable(const splitop_variable& variable, const T* hyper, const Block& block,
                     const T* g) {
  const Rule rule(hyper, variable.decayed != 0);
  const int64_t rows = block.in_one() ? 1 : block.rows;
  const int64_t count = block.in_one() ? block.rows * block.width : block.width;
  const Elements<Rule, T> at(variable, block.offset);
  const bool looks = may_collide(count, at);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t begin = r * block.stride;
    const T* const row = g + r * block.g_stride;
    if (variable.clip == nullptr) {
      update_elements(rule, at, begin, begin + count, row, looks);
    } else {
      const GradientClip<T> clip(static_cast<const T*>(variable.clip));
      update_clipped(rule, clip, at, begin, begin + count, row, looks);
    }
  }
}

template <typename T>
void update_variable(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                     const Block& block, const T* g) {
  with_update_rule<T>(rule, [&](auto tag) {
    update_variable<typename decltype(tag)::Rule>(variable, hyper, block, g);
  });
}

// The same of `count` elements, one after the other.
template <typename T>
void update_variable(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                     int64_t offset, int64_t count, const T* g) {
  update_variable(rule, variable, hyper, Block{offset, 1, count, count, count}, g);
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_VARIABLE_UPDATE_H_
