// The order in which a table's rows are updated: the positions of its ids, sorted by id.
//
// Each position becomes a word, row << position_bits | position, and the words are sorted by row
// with a radix sort, least significant digit first. It is stable, so that the positions of a row
// stay in ascending order. The positions are split into chunks: in each pass all chunks are
// counted, then all are placed, those of one step at the same time. So the balance of the chunks
// does not depend on how the ids are distributed, and the result does not depend on the chunks.
#ifndef SPLITOP_KERNELS_CPU_ROW_ORDER_H_
#define SPLITOP_KERNELS_CPU_ROW_ORDER_H_

#include <stdint.h>

#include <algorithm>

#include "kernels/cpu/indices.h"
#include "kernels/cpu/parallel.h"
#include "splitop/table_update.h"

namespace splitop {

// What moving data costs, in arithmetic: half a pass of the sort.
constexpr double kFlopsPerSortedId = 100;
// As many as are worth a worker more, so that there are as many chunks as workers.
constexpr auto kChunkIds = static_cast<int64_t>(kFlopsPerWorker / kFlopsPerSortedId);
constexpr int64_t kMaxChunks = 16;
constexpr int32_t kMinDigitBits = 6;
constexpr int32_t kMaxDigitBits = 12;  // the counts of a chunk stay in the first-level cache

// Bits that the values in [0, count) take.
inline int32_t bits_below(int64_t count) {
  return count <= 1 ? 0 : 64 - __builtin_clzll(static_cast<uint64_t>(count - 1));
}

class RowOrder {
 public:
  RowOrder(const splitop_table_update& table, int32_t num_workers)
      : table_(table),
        position_bits_(bits_below(table.num_ids)),
        row_bits_(std::max(1, bits_below(table.rows))),
        chunks_(std::clamp<int64_t>(table.num_ids / kChunkIds, 1,
                                    std::min<int64_t>(num_workers, kMaxChunks))) {
    const int32_t digit_bits = std::clamp(position_bits_, kMinDigitBits, kMaxDigitBits);
    passes_ = static_cast<int32_t>(ceil_div(row_bits_, digit_bits));
    digit_bits_ = static_cast<int32_t>(ceil_div(row_bits_, passes_));
    // Every chunk reads the counts of all chunks: not more of them than it has ids.
    while (chunks_ > 1 && chunks_ * chunks_ * digits() > table.num_ids) --chunks_;
  }

  // Whether the words have enough bits.
  bool fits() const { return position_bits_ + row_bits_ <= 64; }

  int32_t position_bits() const { return position_bits_; }
  int32_t passes() const { return passes_; }
  int64_t chunks() const { return chunks_; }
  int64_t chunk_begin(int64_t chunk) const { return table_.num_ids * chunk / chunks_; }

  // In words.
  int64_t scratch() const {
    return std::min(passes_, 2) * table_.num_ids + (chunks_ << digit_bits_);
  }
  void set_scratch(uint64_t* scratch) {
    words_[0] = scratch;
    words_[1] = scratch + (passes_ > 1 ? table_.num_ids : 0);
    counts_ = reinterpret_cast<int64_t*>(words_[1] + table_.num_ids);
  }

  // The first step of a pass: how often each digit is in the chunk.
  void count(int32_t pass, int64_t chunk) const {
    int64_t* counts = counts_of(chunk);
    std::fill(counts, counts + digits(), 0);
    for_each_word(pass, chunk, [&](uint64_t word) { ++counts[digit(pass, word)]; });
  }

  // The second one, when all chunks have been counted: puts the chunk's words where they belong.
  void place(int32_t pass, int64_t chunk) const {
    int64_t next[int64_t{1} << kMaxDigitBits];
    int64_t at = 0;
    for (int64_t d = 0; d < digits(); ++d) {
      for (int64_t c = 0; c < chunks_; ++c) {
        if (c == chunk) next[d] = at;
        at += counts_of(c)[d];
      }
    }
    uint64_t* words = words_[pass % 2];
    for_each_word(pass, chunk, [&](uint64_t word) { words[next[digit(pass, word)]++] = word; });
  }

  // The words after all passes.
  const uint64_t* begin() const { return words_[(passes_ - 1) % 2]; }
  const uint64_t* end() const { return begin() + table_.num_ids; }

  // The first word in [word, last) that belongs to another row than the word before it, or `last`.
  const uint64_t* next_row(const uint64_t* word, const uint64_t* last) const {
    while (word != begin() && word < last && row_of(*word) == row_of(word[-1])) ++word;
    return word;
  }

  // The first word of this row or of a later one.
  const uint64_t* find_row(int64_t row) const {
    return std::partition_point(begin(), end(), [&](uint64_t word) { return row_of(word) < row; });
  }

 private:
  int64_t row_of(uint64_t word) const { return static_cast<int64_t>(word >> position_bits_); }

  int64_t digits() const { return int64_t{1} << digit_bits_; }
  int64_t* counts_of(int64_t chunk) const { return counts_ + (chunk << digit_bits_); }

  int64_t digit(int32_t pass, uint64_t word) const {
    const uint64_t rest = word >> (position_bits_ + pass * digit_bits_);
    return static_cast<int64_t>(rest & static_cast<uint64_t>(digits() - 1));
  }

  // The chunk's words as the pass finds them: made from the ids or left by the pass before.
  template <typename F>
  void for_each_word(int32_t pass, int64_t chunk, const F& f) const {
    const int64_t first = chunk_begin(chunk);
    const int64_t last = chunk_begin(chunk + 1);
    if (pass > 0) {
      const uint64_t* words = words_[(pass - 1) % 2];
      for (int64_t i = first; i < last; ++i) f(words[i]);
      return;
    }
    with_indices(table_.id_type, table_.ids, [&](const auto* ids) {
      for (int64_t p = first; p < last; ++p) {
        f(static_cast<uint64_t>(ids[p]) << position_bits_ | static_cast<uint64_t>(p));
      }
    });
  }

  const splitop_table_update& table_;
  const int32_t position_bits_;
  const int32_t row_bits_;
  int64_t chunks_;
  int32_t passes_;
  int32_t digit_bits_;
  uint64_t* words_[2] = {};
  int64_t* counts_ = nullptr;  // [chunks][digits]
};

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ROW_ORDER_H_
