// The forward pass of a dense layer whose W comes from memory, which takes longer than to multiply
// a short batch by it. Compiled once an instruction set.
//
// A task owns columns of y, as many as may be: a row of W is in another page than the next one, and
// to look up where that is takes as long as to multiply by some of it. It goes down W a few rows at
// a time. While the tiles of one such block are made, they ask for the next one, each for its
// share; the first tile of rows makes the panels that the others read.
#ifndef SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_
#define SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"

namespace splitop {
namespace {

constexpr int64_t kStreamedBatch = 128;  // is too long
constexpr int64_t kStreamedRows = (kStreamedBatch + kTileRows - 1) / kTileRows * kTileRows;
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
  for (int64_t i = 0; i < job.batch; ++i) {
    T* const to = packed + i / kTileRows * kTileRows * depth + i % kTileRows;
    for (int64_t j = 0; j < depth; ++j) to[j * kTileRows] = job.x[i * job.inputs + k + j];
  }
}

// What tile `part` of `parts` asks for of `rows` rows of `width` columns of W, from w on: whole
// rows, as many as the others, where there are rows for all. mapped: any address that is.
template <typename T>
BytesAhead share_of_rows(const T* w, int64_t stride, int64_t rows, int64_t width, int64_t part,
                         int64_t parts, int64_t depth, const T* mapped) {
  constexpr int64_t kBytes = sizeof(T);
  const int64_t begin = rows * part / parts;
  const int64_t count = min64(rows * (part + 1) / parts - begin, depth);
  if (count == 0) return {mapped, 0, depth};
  return {w + begin * stride, width * kBytes, depth, count, stride * kBytes};
}

// Columns [first, first + width) of the layer's activations, at most kStreamedCols.
template <typename T>
void streamed_forward_block(const ForwardJob<T>& job, int64_t first, int64_t width, T* scratch) {
  constexpr int64_t kCols = kTileCols<T>;
  constexpr int64_t kStride = kStreamedCols<T>;
  StreamedScratch<T>& s = *reinterpret_cast<StreamedScratch<T>*>(scratch);
  const int64_t tiles = tiles_of(job.batch);
  const int64_t block = tiles > 1 ? kStreamedDepth : kStreamedDepth / 2;
  const int64_t parts = (width + kCols - 1) / kCols * tiles;
  for (int64_t k = 0; k < job.inputs; k += block) {
    const int64_t depth = min64(block, job.inputs - k);
    const T* const w = job.kernel + k * job.outputs + first;
    const T* const next = w + depth * job.outputs;
    const int64_t next_rows = min64(block, job.inputs - (k + depth));
    const bool is_last = next_rows == 0;
    pack_steps(job, k, depth, s.x);
    for (int64_t j = 0; j < width; j += kCols) {
      const int64_t valid = min64(kCols, width - j);
      if (valid < kCols) {
        for (int64_t d = 0; d < depth; ++d) {
          copy_step(w + d * job.outputs + j, valid, s.panel + d * kCols);
        }
      }
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = t * kTileRows;
        const int rows = static_cast<int>(min64(kTileRows, job.batch - i));
        const TileRows<T> x{s.x + i * depth, 1, kTileRows};
        T* const product = s.product + i * kStride + j;
        BytesAhead ahead = share_of_rows(next, job.outputs, next_rows, width, j / kCols * tiles + t,
                                         parts, depth, w);
        if (t == 0 && valid == kCols) {
          const PanelInMaking<T> b{w + j, job.outputs, s.panel};
          tile<T>(rows, depth, x, b, product, kStride, k > 0, ahead);
        } else {
          tile<T>(rows, depth, x, s.panel, product, kStride, k > 0, ahead);
        }
        if (is_last) finish_tile(job, i, rows, first + j, valid, product, kStride);
      }
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_STREAMED_FORWARD_H_
