// Ids of either type, and which of them are out of range.
#ifndef SPLITOP_KERNELS_CPU_INDICES_H_
#define SPLITOP_KERNELS_CPU_INDICES_H_

#include <stdint.h>

#include <algorithm>

#include "splitop/index_type.h"

namespace splitop {

// Calls f(ids as a pointer to their type).
template <typename F>
auto with_indices(splitop_index_type type, const void* indices, const F& f) {
  return type == SPLITOP_INT32 ? f(static_cast<const int32_t*>(indices))
                               : f(static_cast<const int64_t*>(indices));
}

// The position of the first index in [begin, end) that is not in [0, limit); end if there is none.
template <typename Index>
int64_t first_out_of_range(const Index* indices, int64_t begin, int64_t end, int64_t limit) {
  const auto in_range = [limit](Index index) {
    return static_cast<uint64_t>(int64_t{index}) < static_cast<uint64_t>(limit);
  };
  return std::find_if_not(indices + begin, indices + end, in_range) - indices;
}

// The first of [begin, end) whose index is not below `limit`, or `end`.
template <typename Index>
int64_t first_too_large(const Index* indices, int64_t begin, int64_t end, int64_t limit) {
  const auto is_below = [limit](Index index) { return int64_t{index} < limit; };
  return std::find_if_not(indices + begin, indices + end, is_below) - indices;
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_INDICES_H_
