// A convolution, y = act(X W + b), X the matrix of its windows (windows.h). Compiled once an
// instruction set.
//
// A task owns a block of y, as in dense_forward.h, but its tiles read the windows where they are,
// in the images, by pieces (piece_tile.h): what a row of the filter meets, or a tap where columns
// are dilated, is contiguous there. Rows of the filter that are above or below an image are left
// out. A tile's windows are copied only where one reaches over the left or the right edge, where
// they do not all meet the same rows of the filter, or where they push each other out of a cache.
#ifndef SPLITOP_KERNELS_CPU_WINDOW_FORWARD_H_
#define SPLITOP_KERNELS_CPU_WINDOW_FORWARD_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/piece_tile.h"
#include "kernels/cpu/windows.h"
#include "splitop/cpu.h"

namespace splitop {
namespace {

// Rows of W that are panels at a time, at most: of floats, a panel and what it meets are in a
// first-level cache of 32 KB with AVX2, of 48 KB with AVX-512.
template <typename T>
constexpr int64_t kWindowDepth = min64(kVectorBytes == 64 ? 256 : 320, kForwardDepth<T>);

// Columns [first, first + depth) of the matrix of windows: where they are in an image.
template <typename T>
class WindowSteps {
 public:
  WindowSteps(const Windows<T>& windows, int64_t first, int64_t depth)
      : first_(first), depth_(depth), filter_row_(windows.columns.filter * windows.channels) {
    const int64_t run = run_length(windows), taps = run / windows.channels;
    const int64_t line = windows.columns.input * windows.channels;
    for (int64_t step = 0; step < depth; ++count_) {
      const int64_t row = (first + step) / filter_row_, in_row = (first + step) % filter_row_;
      const int64_t tap = in_row / run * taps, in_run = in_row % run;
      const int64_t column = tap * windows.columns.dilation * windows.channels + in_run;
      const int64_t count = min64(run - in_run, depth - step);
      pieces_[count_] = {row * windows.rows.dilation * line + column, step, count};
      step += count;
    }
  }

  // The steps of some of the filter's rows.
  Range of_rows(Range rows) const {
    const int64_t begin = rows.begin * filter_row_ - first_, end = rows.end * filter_row_ - first_;
    return {begin < 0 ? 0 : min64(begin, depth_), end < 0 ? 0 : min64(end, depth_)};
  }

  // The pieces of these.
  void select(Range steps, const Piece** begin, const Piece** end) const {
    *begin = pieces_;
    *end = pieces_ + count_;
    while (*begin != *end && (*begin)->step < steps.begin) ++*begin;
    while (*begin != *end && (*end)[-1].step >= steps.end) --*end;
  }

  int64_t first() const { return first_; }

 private:
  int64_t first_, depth_;
  int64_t filter_row_;  // elements of a row of the filter
  int64_t count_ = 0;
  Piece pieces_[kWindowDepth<T>];
};

// A tile's windows, and room for what is copied of them.
template <typename T>
struct TileWindows {
  PieceRows<T> rows;
  Piece copied;
  alignas(kVectorBytes) T copy[kTileRows * kWindowDepth<T>];
};

// The rows of the filter that any of `count` windows meet; `same`: whether all of them do, and all
// columns, too.
template <typename T>
Range rows_met(Window<T> window, int64_t count, bool* same) {
  const Range first = window.filter_rows();
  Range all = first;
  *same = true;
  for (int64_t i = 0; i < count; ++i, window.next()) {
    const Range met = window.filter_rows();
    *same = *same && window.has_all_columns() && met.begin == first.begin && met.end == first.end;
    all.begin = min64(all.begin, met.begin);
    all.end = all.end < met.end ? met.end : all.end;
  }
  return all;
}

// Those of `count` windows, from row `row` of the matrix on; `window`, which is there, goes on
// behind them. may_alias: windows next to each other push each other out of the first-level cache.
template <typename T>
void find_windows(const Windows<T>& windows, const WindowSteps<T>& steps, int64_t row, int count,
                  bool may_alias, Window<T>* window, TileWindows<T>* tile) {
  PieceRows<T>& a = tile->rows;
  a.base = windows.image;
  a.distance = 1;
  if (!may_alias && window->rest_of_line() >= count && window->has_all_columns(count)) {
    const int64_t corner = window->corner(), apart = windows.columns.stride * windows.channels;
    for (int r = 0; r < count; ++r) a.starts[r] = corner + r * apart;
    steps.select(steps.of_rows(window->filter_rows()), &a.begin, &a.end);
    return window->next(count);
  }
  bool same;
  const Range wanted = steps.of_rows(rows_met(*window, count, &same));
  for (int r = 0; r < count; ++r, window->next()) a.starts[r] = window->corner();
  if (same && !may_alias) return steps.select(wanted, &a.begin, &a.end);
  const int64_t depth = wanted.end - wanted.begin;
  copy_windows(windows, row, count, steps.first() + wanted.begin, depth, tile->copy,
               kWindowDepth<T>);
  a.base = tile->copy;
  for (int r = 0; r < count; ++r) a.starts[r] = r * kWindowDepth<T>;
  tile->copied = {0, wanted.begin, depth};
  a.begin = &tile->copied;
  a.end = a.begin + 1;
}

// Finishes rows of a whole tile: its sums, and those of the steps before, are the product. A is
// linear or relu.
template <splitop_activation A, typename T>
struct StoreImages {
  using V = typename Vector<T>::Type;

  const T* product;  // NULL: there are no steps before
  T bias[kTileCols<T>];
  T* y;
  int64_t stride;

  inline __attribute__((always_inline)) void operator()(int r, V v0, V v1) const {
    constexpr int64_t kLanes = Vector<T>::kLanes;
    V b0, b1;
    __builtin_memcpy(&b0, bias, sizeof(V));
    __builtin_memcpy(&b1, bias + kLanes, sizeof(V));
    if (product != nullptr) {
      const V* const before = reinterpret_cast<const V*>(product + r * kForwardCols);
      v0 += before[0];
      v1 += before[1];
    }
    v0 += b0;
    v1 += b1;
    if (A == SPLITOP_RELU) {
      v0 = v0 < V{} ? V{} : v0;
      v1 = v1 < V{} ? V{} : v1;
    }
    __builtin_memcpy(y + r * stride, &v0, sizeof(V));
    __builtin_memcpy(y + r * stride + kLanes, &v1, sizeof(V));
  }
};

template <splitop_activation A, typename T>
void finish_images(const ForwardBlock<T>& block, int64_t i, int rows, int64_t j,
                   const PieceRows<T>& a, const T* panel, const T* product) {
  const ForwardJob<T>& job = block.job;
  StoreImages<A, T> store{product, {}, nullptr, job.outputs};
  if (job.bias != nullptr) copy_valid(job.bias + block.first + j, kTileCols<T>, store.bias);
  store.y = job.y + (block.begin + i) * job.outputs + block.first + j;
  piece_tile(rows, a, panel, store);
}

// A tile's rows of the product get what `steps` add to them, and are finished if these are the last
// ones.
template <typename T>
void multiply_windows(const ForwardBlock<T>& block, const WindowSteps<T>& steps, int64_t i,
                      int rows, bool is_last, const PieceRows<T>& a) {
  const ForwardJob<T>& job = block.job;
  const bool accumulate = steps.first() > 0;
  for (int64_t j = 0; j < block.width; j += kTileCols<T>) {
    const T* const panel = block.panel(j, 0);
    T* const product = block.product_row(i) + j;
    const int64_t valid = min64(kTileCols<T>, block.width - j);
    const T* const before = accumulate ? product : nullptr;
    if (is_last && valid == kTileCols<T> && job.activation == SPLITOP_RELU) {
      finish_images<SPLITOP_RELU>(block, i, rows, j, a, panel, before);
    } else if (is_last && valid == kTileCols<T> && job.activation == SPLITOP_LINEAR) {
      finish_images<SPLITOP_LINEAR>(block, i, rows, j, a, panel, before);
    } else {
      piece_tile(rows, a, panel, StoreTile<T>{product, kForwardCols, accumulate});
      if (!is_last) continue;
      finish_tile(job, block.begin + i, rows, block.first + j, valid, product, kForwardCols);
    }
  }
}

// As cached_forward_block, of a job with windows and y, without z. Blocks begin at multiples of a
// tile's rows, so that what a tile leaves out does not depend on how they were shared out.
template <typename T>
void window_forward_block(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                          int64_t width, T* scratch) {
  const int64_t depth = ceil_div(job.inputs, ceil_div(job.inputs, kWindowDepth<T>));
  const ForwardBlock<T> block{job,
                              begin,
                              end - begin,
                              first,
                              width,
                              /*copies_x=*/false,
                              depth,
                              /*panels=*/scratch,
                              /*product=*/scratch + kForwardDepth<T> * kForwardCols};
  const bool may_alias = rows_alias<T>(job.windows->columns.stride * job.windows->channels) &&
                         splitop_cpu_cache_ways() < kTileRows;
  TileWindows<T> tile;
  for (int64_t k = 0; k < job.inputs; k += depth) {
    const WindowSteps<T> steps(*job.windows, k, min64(depth, job.inputs - k));
    make_panels(block, k, min64(depth, job.inputs - k), 0);
    Window<T> window(*job.windows, begin);
    for (int64_t i = 0; i < block.rows; i += kTileRows) {
      const int rows = static_cast<int>(min64(kTileRows, block.rows - i));
      find_windows(*job.windows, steps, begin + i, rows, may_alias, &window, &tile);
      multiply_windows(block, steps, i, rows, k + depth >= job.inputs, tile.rows);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_WINDOW_FORWARD_H_
