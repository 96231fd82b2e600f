// The sum and the largest of a row's values. Compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_ROW_SUMS_H_
#define SPLITOP_KERNELS_CPU_ROW_SUMS_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// Reads what is at index j: one value, or a vector of them. A term is called with either.
template <typename T>
struct OneAt {
  int64_t j;
  T operator()(const T* values) const { return values[j]; }
};

template <typename T>
struct VectorAt {
  int64_t j;
  typename Vector<T>::Type operator()(const T* values) const {
    typename Vector<T>::Type vector;
    __builtin_memcpy(&vector, values + j, sizeof(vector));
    return vector;
  }
};

// The first `count` lanes, a power of two: one half is combined with the other, and so on.
template <typename T, int64_t count, typename Combine>
SPLITOP_INLINE T combined_lanes(typename Vector<T>::Type lanes, const Combine& combine) {
  if constexpr (count == 1) {
    return lanes[0];
  } else {
    for (int64_t i = 0; i < count / 2; ++i) lanes[i] = combine(lanes[i], lanes[i + count / 2]);
    return combined_lanes<T, count / 2>(lanes, combine);
  }
}

// The terms of [0, count), at least one, in one: in four vectors, while there are so many.
template <typename T, typename Term, typename Combine>
SPLITOP_INLINE T combined_terms(int64_t count, const Term& term, const Combine& combine) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  int64_t j = 1;
  T one;
  if (count < kLanes) {
    one = term(OneAt<T>{0});
  } else {
    V vector = term(VectorAt<T>{0});
    j = kLanes;
    if (count >= 4 * kLanes) {
      V a = vector, b = term(VectorAt<T>{kLanes}), c = term(VectorAt<T>{2 * kLanes}),
        d = term(VectorAt<T>{3 * kLanes});
      for (j = 4 * kLanes; j <= count - 4 * kLanes; j += 4 * kLanes) {
        a = combine(a, term(VectorAt<T>{j}));
        b = combine(b, term(VectorAt<T>{j + kLanes}));
        c = combine(c, term(VectorAt<T>{j + 2 * kLanes}));
        d = combine(d, term(VectorAt<T>{j + 3 * kLanes}));
      }
      vector = combine(combine(a, b), combine(c, d));
    }
    for (; j <= count - kLanes; j += kLanes) vector = combine(vector, term(VectorAt<T>{j}));
    one = combined_lanes<T, kLanes>(vector, combine);
  }
  for (; j < count; ++j) one = combine(one, term(OneAt<T>{j}));
  return one;
}

// The sum of at least one term, where term(at) takes what at(values) reads of a row.
template <typename T, typename Term>
SPLITOP_INLINE T sum_of(int64_t count, const Term& term) {
  return combined_terms<T>(count, term, [](auto a, auto b) { return a + b; });
}

// Of at least one value. A NaN may be left out.
template <typename T>
SPLITOP_INLINE T largest_of(int64_t count, const T* values) {
  return combined_terms<T>(
      count, [=](auto at) { return at(values); }, [](auto a, auto b) { return b > a ? b : a; });
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ROW_SUMS_H_
