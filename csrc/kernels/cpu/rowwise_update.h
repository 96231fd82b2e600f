// A row-wise update rule applied to rows of a variable, compiled once an instruction set.
//
// A row is gone through twice: for the mean of the squares of its gradient, and for the update.
#ifndef SPLITOP_KERNELS_CPU_ROWWISE_UPDATE_H_
#define SPLITOP_KERNELS_CPU_ROWWISE_UPDATE_H_

#include <stdint.h>

#include "kernels/cpu/squares.h"
#include "kernels/cpu/variable_update.h"
#include "kernels/cpu/vector.h"
#include "kernels/gradient_clip.h"
#include "kernels/update_rules.h"

namespace splitop {
namespace {

// Elements of a row, from the slots as they were before the row: they are left alone.
template <typename Rule, typename T>
void update_part_of_row(const Rule& rule, int64_t count, const T* __restrict g, T gg,
                        T* __restrict w, T s0, T s1, T s2) {
  for (int64_t j = 0; j < count; ++j) {
    T after[] = {s0, s1, s2};
    rule(g[j], gg, w[j], after[0], after[1], after[2]);
  }
}

// The same with a gradient of zeros.
template <typename Rule, typename T>
void update_part_of_row_without_gradient(const Rule& rule, int64_t count, T* __restrict w, T s0,
                                         T s1, T s2) {
  for (int64_t j = 0; j < count; ++j) {
    T after[] = {s0, s1, s2};
    rule(T(0), T(0), w[j], after[0], after[1], after[2]);
  }
}

// The slots of a row, once its elements are updated.
template <typename Rule, typename T>
void update_slots_of_row(const Rule& rule, T gg, const Elements<Rule, T>& row) {
  T no_weight = 0;
  rule(T(0), gg, no_weight, *row.s0, *row.s1, *row.s2);
}

// A row of `width` elements. columns(begin, count) gives `count` elements of its gradient, from
// `begin` on; it is asked for at most `block` of them at a time, and for each of them twice.
template <typename Rule, typename T, typename Columns>
void update_whole_row(const Rule& rule, const Elements<Rule, T>& row, int64_t width, int64_t block,
                      const Columns& columns) {
  const auto left = [=](int64_t begin) { return width - begin < block ? width - begin : block; };
  double squares = 0;
  for (int64_t begin = 0; begin < width; begin += block) {
    squares += sum_squares(columns(begin, left(begin)), left(begin));
  }
  const T mean = static_cast<T>(squares / static_cast<double>(width));
  for (int64_t begin = 0; begin < width; begin += block) {
    update_part_of_row(rule, left(begin), columns(begin, left(begin)), mean, row.w + begin, *row.s0,
                       *row.s1, *row.s2);
  }
  update_slots_of_row(rule, mean, row);
}

// The same with a gradient of zeros.
template <typename Rule, typename T>
void update_whole_row_without_gradient(const Rule& rule, const Elements<Rule, T>& row,
                                       int64_t width) {
  update_part_of_row_without_gradient(rule, width, row.w, *row.s0, *row.s1, *row.s2);
  update_slots_of_row(rule, T(0), row);
}

// Rows [begin, end) of a variable; g: the gradient of these rows.
template <typename Rule, typename T>
void update_rows(const splitop_variable& variable, const T* hyper, int64_t width, int64_t begin,
                 int64_t end, const T* g) {
  const Rule rule(hyper, variable.decayed != 0);
  alignas(kVectorBytes) T clipped[kClippedElements];
  for (int64_t row = begin; row < end; ++row, g += width) {
    const Elements<Rule, T> at(variable, row * width, row);
    if (variable.clip == nullptr) {
      update_whole_row(rule, at, width, width, [g](int64_t first, int64_t) { return g + first; });
    } else {
      const GradientClip<T> clip(static_cast<const T*>(variable.clip));
      update_whole_row(rule, at, width, kClippedElements, [&](int64_t first, int64_t count) {
        clip_gradient(clip, count, g + first, clipped);
        return clipped;
      });
    }
  }
}

template <typename T>
void update_rows(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                 int64_t width, int64_t begin, int64_t end, const T* g) {
  with_update_rule<T>(rule, [&](auto tag) {
    using Rule = typename decltype(tag)::Rule;
    if constexpr (Rule::kRowwise) update_rows<Rule>(variable, hyper, width, begin, end, g);
  });
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ROWWISE_UPDATE_H_
