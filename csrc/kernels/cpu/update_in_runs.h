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

// Whether W is updated like this. With AVX-512 it hasn't been measured: there W is updated by
// blocks of columns, all of which the tiles ask for (dense_chain_impl.h).
constexpr bool kUpdatesInRuns = kVectorBytes != 64;
constexpr int64_t kLongestInRuns = kDepthBlock;  // a batch whose G is a panel's depth

// What has to be fetched from memory for the update of W: some of W and its slots.
template <typename T>
struct Fetched {
  const T* arrays[1 + SPLITOP_MAX_SLOTS];
  int count = 0;

  void add(const void* array) { arrays[count++] = static_cast<const T*>(array); }
};

// The first of these rows, one array after the other, that so many tiles ask for in turn.
template <typename T>
class FetchedAhead {
 public:
  // rows: of `width` elements, `stride` apart, from `element` of each array on. depth: the steps of
  // a tile. mapped: an address that may be looked up for nothing.
  FetchedAhead(const Fetched<T>& fetched, int64_t element, int64_t rows, int64_t width,
               int64_t stride, int64_t tiles, int64_t depth, const T* mapped)
      : fetched_(fetched),
        element_(element),
        rows_(width == stride ? 1 : rows),
        run_bytes_((width == stride ? rows : 1) * width * kBytes),
        stride_(stride),
        depth_(depth),
        bytes_(min64(fetched.count * rows_ * run_bytes_ / tiles, depth / kStepsOfLine * kLine)),
        each_((bytes_ + depth - 1) / depth),
        first_(reinterpret_cast<const char*>(mapped)) {}

  // What the next tile asks for.
  BytesAhead next() {
    if (left_ < bytes_) next_run();
    const char* const first = first_;
    first_ += bytes_;
    left_ -= bytes_;
    return {first, each_, depth_, 0};
  }

 private:
  static constexpr int64_t kBytes = sizeof(T);
  static constexpr int64_t kLine = 64;
  static constexpr int64_t kStepsOfLine = 4;  // that a line from memory takes, about

  void next_run() {
    if (run_ == fetched_.count * rows_) return;  // the rest of the tiles ask for what is behind it
    const T* const array = fetched_.arrays[fetched_.count - 1 - run_ / rows_];
    first_ = reinterpret_cast<const char*>(array + element_ + run_ % rows_ * stride_);
    left_ = run_bytes_;
    ++run_;
  }

  const Fetched<T>& fetched_;
  const int64_t element_, rows_, run_bytes_, stride_, depth_;
  const int64_t bytes_;  // of a tile
  const int64_t each_;
  const char* first_;
  int64_t left_ = 0;
  int64_t run_ = 0;
};

// Rows [begin, end) of W, for a batch of at most kLongestInRuns. packed: these columns of x, in
// panels of kTileRows. gradient: room for that many elements of dL/dW.
template <typename E, typename T>
void update_in_runs(const LayerJob<E>& job, int64_t begin, int64_t end, const T* packed,
                    const Fetched<T>& fetched, int64_t room, T* gradient) {
  constexpr int64_t kCols = kTileCols<T>;
  const int64_t batch = job.gradient->batch;
  const int64_t padded = (job.outputs + kCols - 1) / kCols * kCols;
  const int64_t widest = min64(padded, room / kTileRows / kCols * kCols);
  const int64_t at_a_time = room / widest / kTileRows * kTileRows;
  for (int64_t row = begin; row < end; row += at_a_time) {
    const int64_t rows = min64(at_a_time, end - row);
    const T* const x = packed + (row - begin) * batch;
    for (int64_t first = 0; first < job.outputs; first += widest) {
      const int64_t width = min64(widest, job.outputs - first);
      const int64_t element = row * job.outputs + first;
      const T* const g = job.gradient->by_batch + first * batch;
      const int64_t tiles = (width + kCols - 1) / kCols * tiles_of(rows);
      FetchedAhead<T> asked(fetched, element, rows, width, job.outputs, tiles, batch, g);
      for (int64_t j = 0; j < width; j += kCols) {
        const T* const panel = g + j * batch;
        for (int64_t i = 0; i < rows; i += kTileRows) {
          const TileRows<T> a{x + i * batch, 1, kTileRows};
          tile<T>(static_cast<int>(min64(kTileRows, rows - i)), batch, a, panel,
                  gradient + i * widest + j, widest, false, asked.next());
        }
      }
      for (int64_t i = 0; i < rows; ++i) {
        update_variable(job.rule, job.kernel, job.hyper, element + i * job.outputs, width,
                        gradient + i * widest);
      }
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_UPDATE_IN_RUNS_H_
