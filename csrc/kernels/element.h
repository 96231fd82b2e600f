// Element types of 16 bits, and the type that sums of products of elements are kept in.
#ifndef SPLITOP_KERNELS_ELEMENT_H_
#define SPLITOP_KERNELS_ELEMENT_H_

#include <stdint.h>

#include "splitop/dtype.h"

namespace splitop {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <typename E>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <typename E>
using Accumulator = typename AccumulatorOf<E>::type;

// f(E()) of the element type E that is meant.
template <typename F>
auto with_element(splitop_dtype dtype, const F& f) {
  switch (dtype) {
    case SPLITOP_FLOAT64:
      return f(double());
    case SPLITOP_BFLOAT16:
      return f(bfloat16());
    case SPLITOP_FLOAT16:
      return f(float16());
    default:
      return f(float());
  }
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_ELEMENT_H_
