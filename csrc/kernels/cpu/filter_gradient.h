// A block of the gradient of a convolution's filter, X^T G with X the matrix of windows. Compiled
// once an instruction set.
//
// The tiles read the windows where they are, in the images. An element of the filter meets some
// columns of each row of windows there, one after the other: those at which it is inside of the
// image, the same ones for all channels of a tap. Windows are copied where that does not pay.
#ifndef SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_
#define SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/piece_tile.h"
#include "kernels/cpu/windows.h"

namespace splitop {
namespace {

// Columns of X, rows of the gradient, that are worked on at a time, at most; and columns of G.
constexpr int64_t kFilterRows = 16 * kTileRows;
constexpr int64_t kFilterCols = kDepthBlock;

template <typename T>
struct FilterScratch {
  T windows[kDepthBlock * kFilterRows];
  T panel[kDepthBlock * kTileCols<T>];
  T sums[kFilterRows * kFilterCols];
};

// That of each worker is aligned as that of the first one.
static_assert(sizeof(FilterScratch<float>) % 64 == 0);
static_assert(sizeof(FilterScratch<double>) % 64 == 0);

// Some rows of X, one after the other, as pieces of what an element of the filter meets.
template <typename T>
class WindowLines {
 public:
  WindowLines(const Windows<T>& windows, int64_t begin, int64_t depth) : windows_(windows) {
    Window<T> window(windows, begin);
    for (int64_t step = 0; step < depth; ++num_lines_) {
      const int64_t count = min64(window.rest_of_line(), depth - step);
      lines_[num_lines_] = {window.corner(), window.y(), window.x(), step, count};
      step += count;
      window.next_line();
    }
  }

  // Of an element that is inside everywhere.
  PieceRows<T> all() {
    num_pieces_ = 0;
    for (int64_t i = 0; i < num_lines_; ++i) add(lines_[i], 0, lines_[i].count);
    return rows();
  }

  // Of the elements of a tap: where they are inside.
  PieceRows<T> inside(int64_t filter_row, int64_t filter_column) {
    const splitop_window &rows = windows_.rows, &columns = windows_.columns;
    const int64_t down = filter_row * rows.dilation, right = filter_column * columns.dilation;
    num_pieces_ = 0;
    for (int64_t i = 0; i < num_lines_; ++i) {
      const Line& line = lines_[i];
      const int64_t y = line.y + down, x = line.x + right;
      if (y < 0 || y >= rows.input) continue;
      const int64_t begin = x < 0 ? windows_in(-x) : 0;
      const int64_t end = min64(x < columns.input ? windows_in(columns.input - x) : 0, line.count);
      if (begin < end) add(line, begin, end);
    }
    return this->rows();
  }

 private:
  struct Line {
    int64_t corner, y, x;  // of its first window
    int64_t step, count;
  };

  // How many windows start in so many columns.
  int64_t windows_in(int64_t columns) const {
    const int64_t stride = windows_.columns.stride;
    return stride == 1 ? columns : ceil_div(columns, stride);
  }

  int64_t distance() const { return windows_.columns.stride * windows_.channels; }

  // Windows [begin, end) of a line, or what they add to the piece before, where it goes on at the
  // same distance.
  void add(const Line& line, int64_t begin, int64_t end) {
    const Piece piece{line.corner + begin * distance(), line.step + begin, end - begin};
    if (num_pieces_ > 0) {
      Piece& last = pieces_[num_pieces_ - 1];
      if (last.step + last.count == piece.step &&
          last.offset + last.count * distance() == piece.offset) {
        last.count += piece.count;
        return;
      }
    }
    pieces_[num_pieces_++] = piece;
  }

  PieceRows<T> rows() const {
    return {windows_.image, {}, pieces_, pieces_ + num_pieces_, distance()};
  }

  const Windows<T>& windows_;
  int64_t num_lines_ = 0, num_pieces_ = 0;
  Line lines_[kDepthBlock];
  Piece pieces_[kDepthBlock];
};

// Whether no window reaches over an edge.
inline bool is_inside(const splitop_window& window) {
  const int64_t last = (window.output - 1) * window.stride - window.before;
  return window.before <= 0 && last + (window.filter - 1) * window.dilation < window.input;
}

// How a block reads its windows: in place, where all are inside, or by tap; or copied.
enum class Reading { kInside, kByTap, kCopied };

// How many windows are at one distance from each other: those of a row, of an image, or all.
template <typename T>
int64_t windows_in_line(const Windows<T>& windows) {
  const splitop_window &rows = windows.rows, &columns = windows.columns;
  if (columns.output * columns.stride != rows.stride * columns.input) return columns.output;
  return rows.output * rows.stride == rows.input ? INT64_MAX : rows.output * columns.output;
}

template <typename T>
Reading reading_of(const Windows<T>& windows) {
  constexpr int64_t kFar = 1024 / sizeof(T);  // windows that share few sets of a cache
  constexpr int64_t kShortestLine = 5;        // that is worth a piece
  constexpr int64_t kFewestChannels = 4;      // that are worth tiles of their own
  if (windows.columns.stride * windows.channels >= kFar) return Reading::kCopied;
  if (is_inside(windows.rows) && is_inside(windows.columns)) {
    return windows_in_line(windows) >= kShortestLine ? Reading::kInside : Reading::kCopied;
  }
  return windows.channels >= kFewestChannels ? Reading::kByTap : Reading::kCopied;
}

// A part of the gradient's product: some windows, and columns of G as a panel.
template <typename T>
struct FilterPart {
  const FilterJob<T>& job;
  const FilterBlock& block;
  int64_t begin, depth;
  int64_t col;  // of the block
  FilterScratch<T>* scratch;

  const T* g() const { return job.gradient + begin * job.filters + block.col + col; }
  int64_t valid() const { return min64(kTileCols<T>, block.cols - col); }
  bool accumulate() const { return begin > block.begin; }
};

// The tiles of rows [first, last) of the block. a: what all of these have the same pieces in; NULL:
// copies of the windows. starts: of the block's rows. The first tile makes the panel on the way, if
// there is none. Not inlined, as a tile takes all registers there are.
template <typename T>
__attribute__((noinline)) void add_rows(const FilterPart<T>& part, const int64_t* starts,
                                        int64_t first, int64_t last, bool has_panel,
                                        PieceRows<T>* a) {
  FilterScratch<T>* const s = part.scratch;
  constexpr int64_t kFewRows = 4;  // fewer take a tile as long
  for (int64_t r = first, rows; r < last; r += rows) {
    const int64_t left = last - r;
    rows = left > kTileRows && left < kTileRows + kFewRows ? ceil_div(left, 2)
                                                           : min64(left, kTileRows);
    T* const sums = s->sums + r * kFilterCols + part.col;
    for (int i = 0; a != nullptr && i < rows; ++i) a->starts[i] = starts[r + i];
    const auto add = [&](auto panel) {
      if (a != nullptr) {
        piece_tile(static_cast<int>(rows), *a, panel,
                   StoreTile<T>{sums, kFilterCols, part.accumulate()});
      } else {
        const TileRows<T> copy{s->windows + r, 1, kFilterRows};
        tile<T>(static_cast<int>(rows), part.depth, copy, panel, sums, kFilterCols,
                part.accumulate());
      }
    };
    if (r == first && !has_panel) {
      add(PanelInMaking<T>{part.g(), part.job.filters, s->panel});
    } else {
      add(static_cast<const T*>(s->panel));
    }
  }
}

template <typename T>
void make_panel_of_gradient(const FilterPart<T>& part) {
  for (int64_t i = 0; i < part.depth; ++i) {
    copy_step(part.g() + i * part.job.filters, part.valid(),
              part.scratch->panel + i * kTileCols<T>);
  }
}

// Where the elements of the filter from `row` on are, from where a window starts.
template <typename T>
void find_elements(const Windows<T>& windows, int64_t row, int64_t count, int64_t* starts) {
  const int64_t channels = windows.channels, line = windows.columns.input * channels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t tap = (row + i) / channels;
    starts[i] = tap / windows.columns.filter * windows.rows.dilation * line +
                tap % windows.columns.filter * windows.columns.dilation * channels +
                (row + i) % channels;
  }
}

// What rows [begin, begin + depth) of X and G add to the block's sums, where all of its rows have
// the same pieces, or are copied. starts: of these rows.
template <typename T>
void add_all(const FilterJob<T>& job, const FilterBlock& block, const int64_t* starts,
             int64_t begin, int64_t depth, PieceRows<T>* a, FilterScratch<T>* s) {
  for (int64_t j = 0; j < block.cols; j += kTileCols<T>) {
    const FilterPart<T> part{job, block, begin, depth, j, s};
    const bool has_panel = part.valid() < kTileCols<T>;
    if (has_panel) make_panel_of_gradient(part);
    add_rows(part, starts, 0, block.rows, has_panel, a);
  }
}

// Likewise, where those of a tap have.
template <typename T>
void add_by_tap(const FilterJob<T>& job, const FilterBlock& block, const int64_t* starts,
                int64_t begin, int64_t depth, WindowLines<T>* lines, FilterScratch<T>* s) {
  const int64_t channels = job.windows->channels, columns = job.windows->columns.filter;
  for (int64_t j = 0; j < block.cols; j += kTileCols<T>) {
    const FilterPart<T> part{job, block, begin, depth, j, s};
    make_panel_of_gradient(part);
    for (int64_t row = 0, last; row < block.rows; row = last) {
      const int64_t tap = (block.row + row) / channels;
      last = min64((tap + 1) * channels - block.row, block.rows);
      PieceRows<T> a = lines->inside(tap / columns, tap % columns);
      add_rows(part, starts, row, last, /*has_panel=*/true, &a);
    }
  }
}

template <typename T>
void add_windows(const FilterJob<T>& job, const FilterBlock& block, Reading reading,
                 const int64_t* starts, int64_t begin, int64_t depth, FilterScratch<T>* s) {
  if (reading == Reading::kCopied) {
    copy_windows(*job.windows, begin, depth, block.row, block.rows, s->windows, kFilterRows);
    return add_all<T>(job, block, starts, begin, depth, nullptr, s);
  }
  WindowLines<T> lines(*job.windows, begin, depth);
  if (reading == Reading::kInside) {
    PieceRows<T> a = lines.all();
    return add_all(job, block, starts, begin, depth, &a, s);
  }
  add_by_tap(job, block, starts, begin, depth, &lines, s);
}

// What rows [begin, begin + depth) of G add to the sums of its columns: a sum of sums, whose error
// grows more slowly with their number.
template <typename T>
void add_columns(const FilterJob<T>& job, const FilterBlock& block, int64_t begin, int64_t depth,
                 T* sums) {
  T part[kFilterCols] = {};
  for (int64_t i = begin; i < begin + depth; ++i) {
    const T* const g = job.gradient + i * job.filters + block.col;
    for (int64_t j = 0; j < block.cols; ++j) part[j] += g[j];
  }
  for (int64_t j = 0; j < block.cols; ++j) sums[j] += part[j];
}

template <typename T>
void filter_block(const FilterJob<T>& job, const FilterBlock& block, T* scratch) {
  FilterScratch<T>* const s = reinterpret_cast<FilterScratch<T>*>(scratch);
  T* const bias_sums = block.row == 0 ? job.bias_sums + block.col : nullptr;
  for (int64_t j = 0; bias_sums != nullptr && j < block.cols; ++j) bias_sums[j] = T(0);
  const Reading reading = reading_of(*job.windows);
  int64_t starts[kFilterRows];
  find_elements(*job.windows, block.row, block.rows, starts);
  for (int64_t begin = block.begin; begin < block.end; begin += kDepthBlock) {
    const int64_t depth = min64(kDepthBlock, block.end - begin);
    add_windows(job, block, reading, starts, begin, depth, s);
    if (bias_sums != nullptr) add_columns(job, block, begin, depth, bias_sums);
  }
  for (int64_t r = 0; r < block.rows; ++r) {
    T* const to = job.sums + (block.row + r) * job.filters + block.col;
    for (int64_t j = 0; j < block.cols; ++j) to[j] = s->sums[r * kFilterCols + j];
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_
