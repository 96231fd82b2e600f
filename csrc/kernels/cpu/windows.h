// The windows of a convolution. Compiled once an instruction set.
//
// As a matrix they have a row for each element of the result's images, and as many columns as the
// filter has rows, columns and channels. It never exists: a product reads them where they are, or
// copies the few rows and columns that its tiles multiply by next. What a row of the filter meets
// is contiguous in x, a run, unless the filter is dilated.
#ifndef SPLITOP_KERNELS_CPU_WINDOWS_H_
#define SPLITOP_KERNELS_CPU_WINDOWS_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

struct Range {
  int64_t begin, end;
};

// Elements of a run.
template <typename T>
int64_t run_length(const Windows<T>& windows) {
  return (windows.columns.dilation == 1 ? windows.columns.filter : 1) * windows.channels;
}

template <typename T>
inline void copy_vector(const T* from, T* to) {
  typename Vector<T>::Type vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  __builtin_memcpy(to, &vector, sizeof(vector));
}

template <typename T>
inline void copy_run(const T* from, int64_t count, T* to) {
  constexpr int64_t kLanes = Vector<T>::kLanes;
  if (count < kLanes) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i < count - kLanes; i += kLanes) copy_vector(from + i, to + i);
  copy_vector(from + count - kLanes, to + count - kLanes);  // some of them perhaps once more
}

// Elements [begin, begin + count) of a row of `size`; those outside are 0.
template <typename T>
inline void copy_clipped(const T* row, int64_t size, int64_t begin, int64_t count, T* to) {
  if (begin >= 0 && begin + count <= size) return copy_run(row + begin, count, to);
  int64_t first = begin < 0 ? -begin : 0;  // inside
  int64_t last = size - begin;
  if (first > count) first = count;
  if (last < first) last = first;
  if (last > count) last = count;
  for (int64_t i = 0; i < first; ++i) to[i] = T(0);
  if (first < last) copy_run(row + begin + first, last - first, to + first);
  for (int64_t i = last; i < count; ++i) to[i] = T(0);
}

// Goes from window to window.
template <typename T>
class Window {
 public:
  Window(const Windows<T>& windows, int64_t row) : windows_(windows) {
    const splitop_window &rows = windows.rows, &columns = windows.columns;
    const int64_t line = row / columns.output;
    const int64_t image = line / rows.output;
    column_ = row - line * columns.output;
    line_ = line - image * rows.output;
    image_ = windows.image + image * size();
    y_ = line_ * rows.stride - rows.before;
    x_ = column_ * columns.stride - columns.before;
  }

  // To the next one, or that after `count` of them that this row of windows has.
  void next(int64_t count = 1) {
    const splitop_window& columns = windows_.columns;
    x_ += count * columns.stride;
    column_ += count;
    if (column_ == columns.output) next_line();
  }

  // To the first one of the next row of windows.
  void next_line() {
    const splitop_window &rows = windows_.rows, &columns = windows_.columns;
    column_ = 0;
    x_ = -columns.before;
    y_ += rows.stride;
    if (++line_ < rows.output) return;
    line_ = 0;
    y_ = -rows.before;
    image_ += size();
  }

  // How many there are from here on in this row of windows.
  int64_t rest_of_line() const { return windows_.columns.output - column_; }

  // The row and the column of its upper left corner, which may be outside.
  int64_t y() const { return y_; }
  int64_t x() const { return x_; }

  // Where that is, in elements from the first image.
  int64_t corner() const {
    return (image_ - windows_.image) + (y_ * windows_.columns.input + x_) * windows_.channels;
  }

  // Whether no column of it is outside, nor of the next ones up to `count` of them, all in this row
  // of windows.
  bool has_all_columns(int64_t count = 1) const {
    const splitop_window& columns = windows_.columns;
    const int64_t last = x_ + (count - 1) * columns.stride;
    return x_ >= 0 && last + (columns.filter - 1) * columns.dilation < columns.input;
  }

  // The rows of the filter that are not outside.
  Range filter_rows() const {
    const splitop_window& rows = windows_.rows;
    Range met{0, rows.filter};
    if (y_ < 0) met.begin = min64(ceil_div(-y_, rows.dilation), rows.filter);
    if (y_ + (rows.filter - 1) * rows.dilation >= rows.input) {
      met.end = y_ < rows.input ? ceil_div(rows.input - y_, rows.dilation) : 0;
    }
    if (met.end < met.begin) met.end = met.begin;
    return met;
  }

  // Copies a part of what row `ky` of the filter meets, from column `kx` on, without the first
  // `skipped` elements.
  void copy(int64_t ky, int64_t kx, int64_t skipped, int64_t count, T* to) const {
    const splitop_window &rows = windows_.rows, &columns = windows_.columns;
    const int64_t y = y_ + ky * rows.dilation;
    const int64_t width = columns.input * windows_.channels;
    const bool inside = y >= 0 && y < rows.input;
    const int64_t begin = (x_ + kx * columns.dilation) * windows_.channels + skipped;
    copy_clipped(inside ? image_ + y * width : image_, inside ? width : 0, begin, count, to);
  }

 private:
  int64_t size() const { return windows_.rows.input * windows_.columns.input * windows_.channels; }

  const Windows<T>& windows_;
  int64_t line_, column_;  // of the result
  const T* image_;
  int64_t y_, x_;  // of the upper left corner
};

// Rows [row, row + count) and columns [k, k + depth) of the matrix, `stride` apart.
template <typename T>
void copy_windows(const Windows<T>& windows, int64_t row, int64_t count, int64_t k, int64_t depth,
                  T* to, int64_t stride) {
  const int64_t run = run_length(windows), taps = run / windows.channels;
  const int64_t first_y = k / (windows.columns.filter * windows.channels);
  const int64_t in_row = k - first_y * windows.columns.filter * windows.channels;
  const int64_t first_x = in_row / run * taps;
  const int64_t first_skipped = in_row % run;
  Window<T> window(windows, row);
  for (int64_t i = 0; i < count; ++i, window.next()) {
    int64_t ky = first_y, kx = first_x, skipped = first_skipped;
    for (int64_t j = 0; j < depth; skipped = 0) {
      const int64_t length = run - skipped < depth - j ? run - skipped : depth - j;
      window.copy(ky, kx, skipped, length, to + i * stride + j);
      j += length;
      kx += taps;
      if (kx == windows.columns.filter) {
        kx = 0;
        ++ky;
      }
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_WINDOWS_H_
