// dL/dW and the update of W after a short batch. Compiled once an instruction set.
//
// The shorter the batch, the more of the time memory takes, from which W and its slots come. So
// dL/dW is made for some rows of W over their whole length, if there is room, and then they are
// updated in runs so long that the processor fetches them by itself. While the tiles are made they
// ask for as much as memory delivers meanwhile: more would have them wait, and the update reads the
// rest no later.
#ifndef SPLITOP_KERNELS_CPU_UPDATE_IN_RUNS_H_
#define SPLITOP_KERNELS_CPU_UPDATE_IN_RUNS_H_

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/variable_update.h"

namespace splitop {
namespace {

// Whether W is updated like this. It was measured with AVX2 only: the plain kernels, whose products
// take longer, follow it, and with AVX-512, where they take less time, W is updated by blocks of
// columns, all of which the tiles ask for (dense_chain_impl.h).
constexpr bool kUpdatesInRuns = kVectorBytes != 64;
// A batch. With longer ones the products are most of the time, and blocks of columns read G less
// often.
constexpr int64_t kLongestInRuns = 512;

// What has to be fetched from memory for the update of W: some of W and its slots.
template <typename T>
struct Fetched {
  const T* arrays[1 + SPLITOP_MAX_SLOTS];
  int count = 0;

  void add(const void* array) { arrays[count++] = static_cast<const T*>(array); }
};

// What so many tiles ask for in turn: rows of these arrays, as far as there is time for. The slots
// come first, as some of W may be in a cache.
template <typename T>
class FetchedAhead {
 public:
  // rows: of `width` elements, `stride` apart, from `element` of each array on. steps: of all
  // tiles. mapped: an address that may be looked up for nothing.
  FetchedAhead(const Fetched<T>& fetched, int64_t element, int64_t rows, int64_t width,
               int64_t stride, int64_t steps, const T* mapped)
      : fetched_(fetched),
        element_(element),
        runs_(width == stride ? 1 : rows),
        run_bytes_(rows / runs_ * width * kBytes),
        stride_(stride),
        each_(min64(ceil_div(fetched.count * runs_ * run_bytes_, steps), kMostOfStep)),
        mapped_(reinterpret_cast<const char*>(mapped)) {}

  // What the next tile asks for.
  BytesAhead<> next(int64_t depth) {
    const int64_t bytes = each_ * depth;
    if (left_ < bytes && !next_run()) return {mapped_, 0, depth};
    const char* const first = first_;
    first_ += bytes;
    left_ -= bytes;
    return {first, bytes, depth};
  }

 private:
  static constexpr int64_t kBytes = sizeof(T);
  static constexpr int64_t kMostOfStep = 64 / 4;  // a line from memory takes some four steps

  bool next_run() {
    if (run_ == fetched_.count * runs_) return false;
    const T* const array = fetched_.arrays[fetched_.count - 1 - run_ / runs_];
    first_ = reinterpret_cast<const char*>(array + element_ + run_ % runs_ * stride_);
    left_ = run_bytes_;
    ++run_;
    return true;
  }

  const Fetched<T>& fetched_;
  const int64_t element_;
  const int64_t runs_;  // of an array
  const int64_t run_bytes_, stride_;
  const int64_t each_;  // bytes of a step
  const char* const mapped_;
  const char* first_ = nullptr;
  int64_t left_ = 0;  // of a run
  int64_t run_ = 0;
};

// The width and the number of rows of W that are updated at a time: all of a row, or an equal part
// of it, and as many rows as there is room for.
template <typename T>
struct RowsInRuns {
  int64_t width, rows;

  RowsInRuns(int64_t outputs, int64_t room) {
    constexpr int64_t kCols = kTileCols<T>;
    const int64_t panels = ceil_div(outputs, kCols), most = room / kTileRows / kCols;
    width = ceil_div(panels, ceil_div(panels, most)) * kCols;
    rows = room / width / kTileRows * kTileRows;
  }
};

// Rows [begin, end) of W. packed: these columns of x, in panels of kTileRows. gradient: room for so
// many elements of dL/dW. Not inlined, as a tile takes all registers there are.
template <typename E, typename T>
__attribute__((noinline)) void update_in_runs(const LayerJob<E>& job, int64_t begin, int64_t end,
                                              const T* packed, const Fetched<T>& fetched,
                                              int64_t room, T* gradient) {
  constexpr int64_t kCols = kTileCols<T>;
  const int64_t batch = job.gradient->batch;
  const RowsInRuns<T> most(job.outputs, room);
  for (int64_t row = begin; row < end; row += most.rows) {
    const int64_t rows = min64(most.rows, end - row);
    const T* const x = packed + (row - begin) * batch;
    for (int64_t first = 0; first < job.outputs; first += most.width) {
      const int64_t width = min64(most.width, job.outputs - first);
      const int64_t element = row * job.outputs + first;
      const T* const g = job.gradient->by_batch + first * batch;
      const int64_t steps = ceil_div(width, kCols) * tiles_of(rows) * batch;
      FetchedAhead<T> asked(fetched, element, rows, width, job.outputs, steps, g);
      for (int64_t j = 0; j < width; j += kCols) {
        for (int64_t k = 0; k < batch; k += kDepthBlock) {
          const int64_t depth = min64(kDepthBlock, batch - k);
          const T* const panel = g + j * batch + k * kCols;
          for (int64_t i = 0; i < rows; i += kTileRows) {
            const TileRows<T> a{x + i * batch + k * kTileRows, 1, kTileRows};
            tile<T>(static_cast<int>(min64(kTileRows, rows - i)), depth, a, panel,
                    gradient + i * most.width + j, most.width, k > 0, asked.next(depth));
          }
        }
      }
      const Block block{element, rows, width, job.outputs, most.width};
      update_variable(job.rule, job.kernel, job.hyper, block, gradient);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_UPDATE_IN_RUNS_H_
