// Rows of a layer normalization, and of its gradient. Compiled once an instruction set.
//
// A row is read several times, from the first-level cache after the first.
#ifndef SPLITOP_KERNELS_CPU_NORM_ROWS_H_
#define SPLITOP_KERNELS_CPU_NORM_ROWS_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_sums.h"

namespace splitop {
namespace {

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

template <typename T>
struct RowMoments {
  T mean;
  T scale;  // one over the deviation

  RowMoments(const T* x, int64_t width, T epsilon) {
    const T count = static_cast<T>(width);
    const T center = sum_of<T>(width, [=](auto at) { return at(x); }) / count;
    const T squares = sum_of<T>(width, [=](auto at) {
      const auto off = at(x) - center;
      return off * off;
    });
    mean = center;
    scale = T(1) / root(squares / count + epsilon);
  }
};

template <typename T>
void norm_rows(const NormJob<T>& job, int64_t begin, int64_t end) {
  const T* const gamma = job.gamma;
  const T* const beta = job.beta;
  for (int64_t i = begin; i < end; ++i) {
    const T* const x = job.x + i * job.width;
    T* const y = job.y + i * job.width;
    const RowMoments<T> row(x, job.width, job.epsilon);
    for (int64_t j = 0; j < job.width; ++j) {
      y[j] = (x[j] - row.mean) * row.scale * gamma[j] + beta[j];
    }
  }
}

template <typename T>
void norm_gradient_rows(const NormGradientJob<T>& job, int64_t begin, int64_t end,
                        T* __restrict dgamma, T* __restrict dbeta) {
  const int64_t width = job.width;
  const T count = static_cast<T>(width);
  const T* const gamma = job.gamma;
  for (int64_t j = 0; j < width; ++j) dgamma[j] = dbeta[j] = T(0);
  for (int64_t i = begin; i < end; ++i) {
    const T* const x = job.x + i * width;
    const T* const dy = job.dy + i * width;
    T* const dx = job.dx + i * width;
    const RowMoments<T> row(x, width, job.epsilon);
    const T mean = row.mean, scale = row.scale;
    const T along_one = sum_of<T>(width, [=](auto at) { return at(dy) * at(gamma); }) / count;
    const T along_row =
        sum_of<T>(width, [=](auto at) { return at(dy) * at(gamma) * ((at(x) - mean) * scale); }) /
        count;
    for (int64_t j = 0; j < width; ++j) {
      const T h = (x[j] - mean) * scale;
      dgamma[j] += dy[j] * h;
      dbeta[j] += dy[j];
      dx[j] = scale * (dy[j] * gamma[j] - along_one - h * along_row);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_NORM_ROWS_H_
