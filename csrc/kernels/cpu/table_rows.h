// The rows of an embedding table: their gradients' sums and their update, compiled once an
// instruction set.
//
// The words of a row lie one after the other. Their rows of `gradient` are summed up in a buffer
// in the first-level cache, which the update reads at once; the one row of a row that was looked
// up once is read by the update where it is. What is touched next is known from the words, and is
// asked for early: the rows lie anywhere in memory. A row-wise rule (rowwise_update.h) reads the
// sum twice: that of a row of more than kSumColumns is made twice.
#ifndef SPLITOP_KERNELS_CPU_TABLE_ROWS_H_
#define SPLITOP_KERNELS_CPU_TABLE_ROWS_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/rowwise_update.h"
#include "kernels/cpu/variable_update.h"
#include "kernels/cpu/vector.h"
#include "kernels/update_rules.h"

namespace splitop {
namespace {

constexpr int64_t kSumColumns = 1024;  // of a row's gradient that are held at a time
constexpr int64_t kWordsAhead = 16;    // from the word whose rows are asked for to the one in use
constexpr int64_t kPrefetchedBytes = 512;  // of a row; the processor foresees the rest itself

// GCC takes a function that does nothing but ask for memory for one without effects, and drops its
// calls, unless they are inlined early on: here and below.
template <typename T>
SPLITOP_INLINE void prefetch_row(const T* row, int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(T);
  constexpr int64_t kMost = kPrefetchedBytes / sizeof(T);
  const int64_t last = (width < kMost ? width : kMost) - 1;
  for (int64_t j = 0; j < last; j += kLine) __builtin_prefetch(row + j);
  __builtin_prefetch(row + last);  // an unaligned row ends in a line more
}

// Where the words' rows of `gradient` are, and what they are multiplied by.
template <typename T>
class WordGradients {
 public:
  explicit WordGradients(const TableJob<T>& job)
      : table_(*job.table),
        gradient_(static_cast<const T*>(table_.gradient)),
        weights_(static_cast<const T*>(table_.id_weights)),
        bag_sizes_(job.bag_sizes),
        position_mask_((uint64_t{1} << job.position_bits) - 1) {}

  bool scaled() const { return weights_ != nullptr || bag_sizes_ != nullptr; }

  // Whether the word's id is in a bag, if there are bags.
  bool has_row(uint64_t word) const {
    return table_.gradient_row == nullptr || bag(position(word)) >= 0;
  }

  const T* row(uint64_t word) const {
    const int64_t row = bag(position(word));
    return gradient_ + (row < 0 ? 0 : row) * table_.width;
  }

  T factor(uint64_t word) const {
    const int64_t p = position(word);
    const T weight = weights_ == nullptr ? T(1) : weights_[p];
    if (bag_sizes_ == nullptr) return weight;
    const T size = static_cast<T>(bag_sizes_[bag(p)]);
    return weight / (table_.combiner == SPLITOP_COMBINER_MEAN ? size : square_root(size));
  }

 private:
  int64_t position(uint64_t word) const { return static_cast<int64_t>(word & position_mask_); }

  int64_t bag(int64_t position) const {
    if (table_.gradient_row == nullptr) return position;
    return table_.gradient_row_type == SPLITOP_INT32
               ? static_cast<const int32_t*>(table_.gradient_row)[position]
               : static_cast<const int64_t*>(table_.gradient_row)[position];
  }

  const splitop_table_update& table_;
  const T* gradient_;
  const T* weights_;
  const int64_t* bag_sizes_;
  uint64_t position_mask_;
};

template <typename T>
void scale_row(int64_t count, T factor, const T* __restrict row, T* __restrict sum) {
  for (int64_t j = 0; j < count; ++j) sum[j] = factor * row[j];
}

template <typename T>
void add_scaled_row(int64_t count, T factor, const T* __restrict row, T* __restrict sum) {
  for (int64_t j = 0; j < count; ++j) sum[j] += factor * row[j];
}

template <typename T>
void add_scaled_squares(int64_t count, T factor, const T* __restrict row, T* __restrict sum) {
  for (int64_t j = 0; j < count; ++j) {
    const T term = factor * row[j];
    sum[j] += term * term;
  }
}

template <typename Rule, typename T>
class TableRows {
 public:
  explicit TableRows(const TableJob<T>& job)
      : gradients_(job),
        variable_(job.table->variable),
        width_(job.table->width),
        position_bits_(job.position_bits),
        sums_squares_(job.table->sums_squares != 0),
        rule_(job.hyper, variable_.decayed != 0) {}

  void looked_up(const uint64_t* first, const uint64_t* last) const {
    const uint64_t* ahead = first;
    while (first < last) {
      for (; ahead < last && ahead < first + kWordsAhead; ++ahead) {
        prefetch_row(gradients_.row(*ahead), width_);
        prefetch_variable(*ahead);
      }
      const uint64_t* end = end_of_row(first, last);
      update(first, end);
      first = end;
      if (ahead < first) ahead = first;
    }
  }

  void all(const uint64_t* first, const uint64_t* last, int64_t begin, int64_t end) const {
    while (first < last) {
      const int64_t row = row_of(*first);
      if (last - first > kWordsAhead) prefetch_row(gradients_.row(first[kWordsAhead]), width_);
      if (begin < row) update_without_gradient(begin, row);
      const uint64_t* next = end_of_row(first, last);
      update(first, next);
      first = next;
      begin = row + 1;
    }
    if (begin < end) update_without_gradient(begin, end);
  }

 private:
  int64_t row_of(uint64_t word) const { return static_cast<int64_t>(word >> position_bits_); }

  const uint64_t* end_of_row(const uint64_t* first, const uint64_t* last) const {
    const uint64_t* end = first + 1;
    while (end < last && row_of(*end) == row_of(*first)) ++end;
    return end;
  }

  int64_t slot_width() const { return Rule::kRowwise ? 1 : width_; }

  Elements<Rule, T> elements(int64_t row) const {
    return {variable_, row * width_, row * slot_width()};
  }

  SPLITOP_INLINE void prefetch_variable(uint64_t word) const {
    const Elements<Rule, T> at = elements(row_of(word));
    prefetch_row(at.w, width_);
    if (Rule::kNumSlots > 0) prefetch_row(at.s0, slot_width());
    if (Rule::kNumSlots > 1) prefetch_row(at.s1, slot_width());
    if (Rule::kNumSlots > 2) prefetch_row(at.s2, slot_width());
  }

  // The row that [first, last) are the words of.
  void update(const uint64_t* first, const uint64_t* last) const {
    if constexpr (Rule::kRowwise) return update_rowwise(first, last);
    const int64_t offset = row_of(*first) * width_;
    if (last - first == 1 && !gradients_.scaled() && gradients_.has_row(*first)) {
      return update_columns(offset, width_, gradients_.row(*first));
    }
    alignas(kVectorBytes) T sum[kSumColumns];
    alignas(kVectorBytes) T squares[kSumColumns];
    for (int64_t begin = 0; begin < width_; begin += kSumColumns) {
      const int64_t count = width_ - begin < kSumColumns ? width_ - begin : kSumColumns;
      sum_columns(first, last, begin, count, sum);
      if (sums_squares_ && last - first > 1) {
        sum_squares(first, last, begin, count, squares);
        update_columns_with_squares(offset + begin, count, sum, squares);
      } else {
        update_columns(offset + begin, count, sum);
      }
    }
  }

  // The same by a row-wise rule.
  void update_rowwise(const uint64_t* first, const uint64_t* last) const {
    const Elements<Rule, T> at = elements(row_of(*first));
    if (last - first == 1 && !gradients_.scaled() && gradients_.has_row(*first)) {
      const T* g = gradients_.row(*first);
      return update_whole_row(rule_, at, width_, width_,
                              [g](int64_t begin, int64_t) { return g + begin; });
    }
    alignas(kVectorBytes) T sum[kSumColumns];
    int64_t held = -1;  // where the columns begin that are in `sum`
    update_whole_row(rule_, at, width_, kSumColumns, [&](int64_t begin, int64_t count) {
      if (begin != held) sum_columns(first, last, begin, count, sum);
      held = begin;
      return sum;
    });
  }

  void sum_columns(const uint64_t* first, const uint64_t* last, int64_t begin, int64_t count,
                   T* sum) const {
    const uint64_t* word = first;
    if (gradients_.has_row(*first)) {
      scale_row(count, gradients_.factor(*first), gradients_.row(*first) + begin, sum);
      ++word;
    } else {
      set_to_zero(count, sum);
    }
    for (; word < last; ++word) {
      if (word + kWordsAhead < last) {
        prefetch_row(gradients_.row(word[kWordsAhead]) + begin, count);
      }
      if (!gradients_.has_row(*word)) continue;
      add_scaled_row(count, gradients_.factor(*word), gradients_.row(*word) + begin, sum);
    }
  }

  // The rows of `gradient` are in the cache from their sum.
  void sum_squares(const uint64_t* first, const uint64_t* last, int64_t begin, int64_t count,
                   T* squares) const {
    set_to_zero(count, squares);
    for (const uint64_t* word = first; word < last; ++word) {
      if (!gradients_.has_row(*word)) continue;
      add_scaled_squares(count, gradients_.factor(*word), gradients_.row(*word) + begin, squares);
    }
  }

  static void set_to_zero(int64_t count, T* values) {
    for (int64_t j = 0; j < count; ++j) values[j] = T(0);
  }

  void update_columns_with_squares(int64_t offset, int64_t count, const T* g, const T* gg) const {
    const Elements<Rule, T> at(variable_, offset);
    update_row_with_squares(rule_, count, g, gg, at.w, at.s0, at.s1, at.s2);
  }

  void update_columns(int64_t offset, int64_t count, const T* g) const {
    const Elements<Rule, T> at(variable_, offset);
    update_row(rule_, count, g, at.w, at.s0, at.s1, at.s2);
  }

  void update_without_gradient(int64_t begin, int64_t end) const {
    if constexpr (Rule::kRowwise) {
      for (int64_t row = begin; row < end; ++row) {
        update_whole_row_without_gradient(rule_, elements(row), width_);
      }
      return;
    }
    const Elements<Rule, T> at(variable_, 0);
    const bool looks = may_collide((end - begin) * width_, at);
    update_elements_without_gradient(rule_, at, begin * width_, end * width_, looks);
  }

  const WordGradients<T> gradients_;
  const splitop_variable variable_;
  const int64_t width_;
  const int32_t position_bits_;
  const bool sums_squares_;
  const Rule rule_;
};

template <typename T>
void looked_up_rows(const TableJob<T>& job, const uint64_t* first, const uint64_t* last) {
  with_update_rule<T>(job.rule, [&](auto tag) {
    TableRows<typename decltype(tag)::Rule, T>(job).looked_up(first, last);
  });
}

template <typename T>
void all_rows(const TableJob<T>& job, const uint64_t* first, const uint64_t* last, int64_t begin,
              int64_t end) {
  with_update_rule<T>(job.rule, [&](auto tag) {
    TableRows<typename decltype(tag)::Rule, T>(job).all(first, last, begin, end);
  });
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_TABLE_ROWS_H_
