// The gradient of max pooling of one image, and of relu before it. Compiled once an instruction
// set.
#ifndef SPLITOP_KERNELS_CPU_POOLED_IMAGE_H_
#define SPLITOP_KERNELS_CPU_POOLED_IMAGE_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// The part of a window that is inside: rows or columns of the image.
struct Inside {
  int64_t begin, end;

  Inside(const splitop_window& window, int64_t index) {
    begin = index * window.stride - window.before;
    end = begin + window.filter < window.input ? begin + window.filter : window.input;
    if (begin < 0) begin = 0;
  }
};

// V, I: a vector of values and one of indices, or one of each. Some channels of a window.
template <typename V, typename I, typename T>
inline __attribute__((always_inline)) void pooled_window(const Inside& rows, const Inside& columns,
                                                         int64_t line, int64_t channels, const T* x,
                                                         bool of_relu, const T* dy, T* dz) {
  const int64_t width = columns.end - columns.begin;
  V best, g;
  I where = {};
  __builtin_memcpy(&best, x + rows.begin * line + columns.begin * channels, sizeof(V));
  __builtin_memcpy(&g, dy, sizeof(V));
  int32_t index = 0;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const T* at = x + r * line + columns.begin * channels;
    for (int64_t c = 0; c < width; ++c, ++index, at += channels) {
      V value;
      __builtin_memcpy(&value, at, sizeof(V));
      const auto larger = best < value;
      best = larger ? value : best;
      where = larger ? I{} + index : where;
    }
  }
  // Only the largest one has a gradient: where relu has made it 0, none has. A product, as in
  // activation_gradients.h.
  if (of_relu) g *= best > V{} ? V{} + T(1) : V{};
  index = 0;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    T* at = dz + r * line + columns.begin * channels;
    for (int64_t c = 0; c < width; ++c, ++index, at += channels) {
      V sum;
      __builtin_memcpy(&sum, at, sizeof(V));
      sum += where == I{} + index ? g : V{};
      __builtin_memcpy(at, &sum, sizeof(V));
    }
  }
}

template <typename T>
void pooled_image(const PoolJob<T>& job, int64_t image) {
  using V = typename Vector<T>::Type;
  using I = typename Vector<T>::LaneIndex;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  const int64_t channels = job.channels;
  const int64_t line = job.columns.input * channels;
  const int64_t size = job.rows.input * line;
  const T* const x = job.x + image * size;
  T* const dz = job.dz + image * size;
  const T* dy = job.dy + image * job.rows.output * job.columns.output * channels;
  for (int64_t i = 0; i < size; ++i) dz[i] = T(0);
  for (int64_t i = 0; i < job.rows.output; ++i) {
    const Inside rows(job.rows, i);
    for (int64_t j = 0; j < job.columns.output; ++j, dy += channels) {
      const Inside columns(job.columns, j);
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) {
        pooled_window<V, I>(rows, columns, line, channels, x + c, job.of_relu, dy + c, dz + c);
      }
      for (; c < channels; ++c) {
        pooled_window<T, typename Integer<sizeof(T)>::Type>(rows, columns, line, channels, x + c,
                                                            job.of_relu, dy + c, dz + c);
      }
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_POOLED_IMAGE_H_
