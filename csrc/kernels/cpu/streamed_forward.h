// The forward pass of a dense layer whose W comes from memory, which takes longer than to multiply
// a short batch by it. Compiled once an instruction set.
//
// A task owns columns of y, and the wider they are, the better: a row of W is in another page than
// the next one, and to look up where that is takes as long as to multiply by some of it. It goes
// down W a few rows at a time. While the tiles of one such block are made, they ask for the next
// one, each for its share; the first tile of rows makes the panels that the others read.
#ifndef SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_
#define SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/windows.h"

namespace splitop {
namespace {

// From this batch on, to multiply takes longer than to wait.
constexpr int64_t kStreamedBatch = 128;
constexpr int64_t kStreamedRows = tiles_of(kStreamedBatch) * kTileRows;
constexpr int64_t kStreamedDepth = 64;  // rows of W at a time, at most
template <typename T>
constexpr int64_t kStreamedCols = 4096 / sizeof(T);  // a page of W, at most

// Whether W is waited for.
template <typename T>
bool waits_for_kernel(int64_t batch, int64_t inputs, int64_t outputs) {
  return batch < kStreamedBatch && !kernel_is_cached<T>(inputs, outputs);
}

template <typename T>
struct StreamedScratch {
  T product[kStreamedRows * kStreamedCols<T>];
  T x[kStreamedRows * kStreamedDepth];  // [tile][step][kTileRows]
  T panel[kStreamedDepth * kTileCols<T>];
};

template <typename T>
constexpr int64_t kStreamedScratch = sizeof(StreamedScratch<T>) / sizeof(T);

// Columns [k, k + depth) of x as panels of kTileRows. What is missing of the last one isn't read.
template <typename T>
void pack_steps(const ForwardJob<T>& job, int64_t k, int64_t depth, T* packed) {
  T window[kStreamedDepth];
  for (int64_t i = 0; i < job.batch; ++i) {
    if (job.windows != nullptr) copy_windows(*job.windows, i, 1, k, depth, window, 0);
    const T* const x = job.windows != nullptr ? window : job.x + i * job.x_stride + k;
    T* const to = packed + i / kTileRows * kTileRows * depth + i % kTileRows;
    for (int64_t j = 0; j < depth; ++j) to[j * kTileRows] = x[j];
  }
}

// Some rows of W, from w on, and columns that a task owns.
template <typename T>
struct StreamedRows {
  const T* w;
  int64_t stride;
  int64_t count;
  int64_t width;
};

// Rows that so many tiles ask for in turn, each for as many bytes as the others: one that asked for
// more would fill the queue of misses and wait for it. kLines: as many as it may be a step.
template <int kLines, typename T>
class StreamedAhead {
 public:
  // rows: none, or some. depth: the steps of a tile. mapped: an address that may be looked up for
  // nothing.
  StreamedAhead(const StreamedRows<T>& rows, int64_t tiles, int64_t depth, const T* mapped)
      : rows_(rows),
        depth_(depth),
        mapped_(mapped),
        each_(ceil_div(rows.count * rows.width * kBytes, tiles * depth)),
        row_steps_(rows.count > 0 ? ceil_div(rows.width * kBytes, each_) : depth),
        left_(row_steps_) {}

  // What the next tile asks for.
  BytesAhead<kLines> next() {
    if (row_ >= rows_.count) return {mapped_, 0, depth_};
    const char* const row = reinterpret_cast<const char*>(rows_.w + row_ * rows_.stride);
    const auto ahead =
        BytesAhead<kLines>::within_rows(row + (row_steps_ - left_) * each_, each_, left_,
                                        row_steps_, rows_.stride * kBytes - row_steps_ * each_);
    for (left_ -= depth_; left_ <= 0; left_ += row_steps_) ++row_;
    return ahead;
  }

 private:
  static constexpr int64_t kBytes = sizeof(T);

  const StreamedRows<T> rows_;
  const int64_t depth_;
  const T* const mapped_;
  const int64_t each_;       // bytes of a step
  const int64_t row_steps_;  // of a row
  int64_t row_ = 0;
  int64_t left_;  // steps of this row
};

// What `rows` add to the columns that are theirs. next: the rows that come after them.
template <int kLines, typename T>
void multiply_streamed(const ForwardJob<T>& job, int64_t first, const StreamedRows<T>& rows,
                       const StreamedRows<T>& next, bool accumulate, StreamedScratch<T>* s) {
  constexpr int64_t kCols = kTileCols<T>;
  constexpr int64_t kStride = kStreamedCols<T>;
  const int64_t tiles = ceil_div(rows.width, kCols) * tiles_of(job.batch);
  StreamedAhead<kLines, T> asked(next, tiles, rows.count, rows.w);
  for (int64_t j = 0; j < rows.width; j += kCols) {
    const int64_t valid = min64(kCols, rows.width - j);
    for (int64_t d = 0; valid < kCols && d < rows.count; ++d) {
      copy_step(rows.w + d * rows.stride + j, valid, s->panel + d * kCols);
    }
    for (int64_t i = 0; i < job.batch; i += kTileRows) {
      const int height = static_cast<int>(min64(kTileRows, job.batch - i));
      const TileRows<T> x{s->x + i * rows.count, 1, kTileRows};
      T* const product = s->product + i * kStride + j;
      const BytesAhead<kLines> ahead = asked.next();
      if (i == 0 && valid == kCols) {
        const PanelInMaking<T> b{rows.w + j, rows.stride, s->panel};
        tile<T>(height, rows.count, x, b, product, kStride, accumulate, ahead);
      } else {
        const T* const made = s->panel;
        tile<T>(height, rows.count, x, made, product, kStride, accumulate, ahead);
      }
      if (next.count > 0) continue;
      finish_tile(job, i, height, first + j, valid, product, kStride);
    }
  }
}

// Columns [first, first + width) of the layer's activations, at most kStreamedCols.
template <typename T>
void streamed_forward_block(const ForwardJob<T>& job, int64_t first, int64_t width, T* scratch) {
  StreamedScratch<T>* const s = reinterpret_cast<StreamedScratch<T>*>(scratch);
  // An only tile asks for as much at each step as it takes of W, others for half of it or less.
  constexpr int kPanelLines = sizeof(T) * kTileCols<T> > 64 ? 2 : 1;
  const bool one_tile = job.batch <= kTileRows;
  const int64_t depth = one_tile ? kStreamedDepth / 2 : kStreamedDepth;
  StreamedRows<T> rows{job.kernel + first, job.outputs, min64(depth, job.inputs), width};
  for (int64_t k = 0; k < job.inputs; k += depth) {
    StreamedRows<T> next = rows;
    next.count = min64(depth, job.inputs - k - rows.count);
    if (next.count > 0) next.w += rows.count * job.outputs;
    pack_steps(job, k, rows.count, s->x);
    if (one_tile) {
      multiply_streamed<kPanelLines>(job, first, rows, next, k > 0, s);
    } else {
      multiply_streamed<1>(job, first, rows, next, k > 0, s);
    }
    rows = next;
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_
