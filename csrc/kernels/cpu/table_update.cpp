// The update of embedding tables on CPUs: the ids are sorted, then every worker takes slices of
// the sorted ids, or blocks of rows where all rows are updated, whichever table they belong to.
#include "splitop/table_update.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/indices.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_order.h"

namespace splitop {
namespace {

constexpr int64_t kTaskElements = 1 << 15;  // of the variable, about
constexpr int64_t kTaskIds = 1 << 11;       // at most
constexpr int64_t kCheckedIds = 1 << 16;    // a task of the search for a bad id

bool has_bag_sizes(const splitop_table_update& table) {
  return table.combiner != SPLITOP_COMBINER_SUM;
}

// The first position in [begin, end) whose id or gradient_row is out of range, or `end`.
int64_t first_bad(const splitop_table_update& table, int64_t begin, int64_t end) {
  end = with_indices(table.id_type, table.ids, [&](const auto* ids) {
    return first_out_of_range(ids, begin, end, table.rows);
  });
  if (table.gradient_row == nullptr) return end;
  return with_indices(table.gradient_row_type, table.gradient_row, [&](const auto* rows) {
    return first_too_large(rows, begin, end, table.gradient_rows);
  });
}

// Adds the positions in [begin, end) to the sizes of their bags. Bags mostly lie together.
void count_bags(const splitop_table_update& table, int64_t begin, int64_t end, int64_t* sizes) {
  with_indices(table.gradient_row_type, table.gradient_row, [&](const auto* rows) {
    for (int64_t p = begin; p < end;) {
      const int64_t first = p;
      while (p < end && rows[p] == rows[first]) ++p;
      if (rows[first] < 0) continue;
      __atomic_fetch_add(sizes + rows[first], p - first, __ATOMIC_RELAXED);
    }
  });
}

// The scratch of all tables, in words: for each one its order and the sizes of its bags.
int64_t scratch_words(const splitop_table_update& table, const RowOrder& order) {
  return order.scratch() + (has_bag_sizes(table) ? table.gradient_rows : 0);
}

size_t scratch_bytes(const splitop_multi_table_update& update, int32_t num_workers) {
  int64_t words = 0;
  for (int32_t i = 0; i < update.num_tables; ++i) {
    words += scratch_words(update.tables[i], RowOrder(update.tables[i], num_workers));
  }
  return sizeof(uint64_t) * words;
}

template <typename T>
class TableRun {
 public:
  TableRun(const splitop_multi_table_update& update, void* scratch,
           const splitop_executor& executor)
      : kernels_(dense_chain_kernels<T>()), update_(update), executor_(executor) {
    orders_.reserve(update.num_tables);
    auto* words = static_cast<uint64_t*>(scratch);
    for (int32_t i = 0; i < update.num_tables; ++i) {
      const splitop_table_update& table = update.tables[i];
      RowOrder& order = orders_.emplace_back(table, executor.num_workers);
      order.set_scratch(words);
      bag_sizes_.push_back(
          has_bag_sizes(table) ? reinterpret_cast<int64_t*>(words + order.scratch()) : nullptr);
      words += scratch_words(table, order);
      chunks_.add(order.chunks());
      row_tasks_.add(ceil_div(task_units(table), task_size(table)));
    }
  }

  splitop_status run() {
    for (const RowOrder& order : orders_) {
      if (!order.fits()) return SPLITOP_UNSUPPORTED;
    }
    if (!begin_order()) return SPLITOP_INVALID_ARGUMENT;
    finish_order();
    update_rows();
    return SPLITOP_OK;
  }

 private:
  // ---- the order ----

  // Checks and counts the ids; a table in one chunk needs no one else, and is sorted as well.
  // False if an id is bad.
  bool begin_order() {
    for (int32_t i = 0; i < update_.num_tables; ++i) {
      if (bag_sizes_[i] != nullptr) {
        std::fill_n(bag_sizes_[i], update_.tables[i].gradient_rows, 0);
      }
    }
    std::atomic<bool> good{true};
    double flops = 0;
    for (const RowOrder& order : orders_) {
      flops += kFlopsPerSortedId * (order.chunks() > 1 ? 1 : 2 * order.passes()) *
               static_cast<double>(order.end() - order.begin());
    }
    parallel_tasks(executor_, executor_.num_workers, chunks_.total(), flops,
                   [&](int64_t task, int32_t) {
                     const auto [i, chunk] = chunks_.at(task);
                     if (!begin_order(i, chunk)) good = false;
                   });
    return good;
  }

  bool begin_order(size_t i, int64_t chunk) const {
    const RowOrder& order = orders_[i];
    const splitop_table_update& table = update_.tables[i];
    const int64_t begin = order.chunk_begin(chunk);
    const int64_t end = order.chunk_begin(chunk + 1);
    if (first_bad(table, begin, end) != end) return false;
    if (bag_sizes_[i] != nullptr) count_bags(table, begin, end, bag_sizes_[i]);
    order.count(0, chunk);
    if (order.chunks() == 1) {
      order.place(0, chunk);
      for (int32_t pass = 1; pass < order.passes(); ++pass) {
        order.count(pass, chunk);
        order.place(pass, chunk);
      }
    }
    return true;
  }

  // Sorts the tables of several chunks, whose first pass has been counted.
  void finish_order() const {
    int32_t passes = 0;
    for (const RowOrder& order : orders_) {
      if (order.chunks() > 1) passes = std::max(passes, order.passes());
    }
    for (int32_t pass = 0; pass < passes; ++pass) {
      if (pass > 0) for_each_chunk(pass, &RowOrder::count);
      for_each_chunk(pass, &RowOrder::place);
    }
  }

  // A step of a pass, for the tables of several chunks that have this pass.
  void for_each_chunk(int32_t pass, void (RowOrder::*step)(int32_t, int64_t) const) const {
    Parts chunks;
    double flops = 0;
    for (const RowOrder& order : orders_) {
      const bool wanted = order.chunks() > 1 && pass < order.passes();
      chunks.add(wanted ? order.chunks() : 0);
      if (wanted) flops += kFlopsPerSortedId * static_cast<double>(order.end() - order.begin());
    }
    parallel_tasks(executor_, executor_.num_workers, chunks.total(), flops,
                   [&](int64_t task, int32_t) {
                     const auto [i, chunk] = chunks.at(task);
                     (orders_[i].*step)(pass, chunk);
                   });
  }

  // ---- the rows ----

  // A task's size, in ids or in rows, does not depend on the number of workers: neither do the
  // elements that are updated together.
  static int64_t task_units(const splitop_table_update& table) {
    if (table.width == 0) return 0;
    return table.scope == SPLITOP_ALL_ROWS ? table.rows : table.num_ids;
  }

  static int64_t task_size(const splitop_table_update& table) {
    const int64_t size = kTaskElements / std::max<int64_t>(table.width, 1);
    const int64_t most = table.scope == SPLITOP_ALL_ROWS ? kTaskElements : kTaskIds;
    return std::clamp<int64_t>(size, 1, most);
  }

  void update_rows() const {
    double flops = 0;
    for (int32_t i = 0; i < update_.num_tables; ++i) {
      const splitop_table_update& table = update_.tables[i];
      flops += kFlopsPerRow * static_cast<double>(table.num_ids) +
               kFlopsPerElement * static_cast<double>(task_units(table)) *
                   static_cast<double>(table.width);
    }
    parallel_tasks(executor_, executor_.num_workers, row_tasks_.total(), flops,
                   [this](int64_t task, int32_t) {
                     const auto [i, part] = row_tasks_.at(task);
                     if (update_.tables[i].scope == SPLITOP_ALL_ROWS) {
                       update_block(i, part);
                     } else {
                       update_slice(i, part);
                     }
                   });
  }

  // The rows whose first word is in the slice.
  void update_slice(size_t i, int64_t slice) const {
    const RowOrder& order = orders_[i];
    const int64_t size = task_size(update_.tables[i]);
    const uint64_t* begin = order.begin() + slice * size;
    const uint64_t* end = order.end() - begin < size ? order.end() : begin + size;
    const uint64_t* first = order.next_row(begin, end);
    if (first == end) return;
    kernels_.looked_up_rows(job(i), first, order.next_row(end, order.end()));
  }

  void update_block(size_t i, int64_t block) const {
    const RowOrder& order = orders_[i];
    const splitop_table_update& table = update_.tables[i];
    const int64_t begin = block * task_size(table);
    const int64_t end = std::min(begin + task_size(table), table.rows);
    kernels_.all_rows(job(i), order.find_row(begin), order.find_row(end), begin, end);
  }

  TableJob<T> job(size_t i) const {
    return {&update_.tables[i], update_.rule, static_cast<const T*>(update_.hyper), bag_sizes_[i],
            orders_[i].position_bits()};
  }

  const DenseChainKernels<T>& kernels_;
  const splitop_multi_table_update& update_;
  const splitop_executor& executor_;
  std::vector<RowOrder> orders_;
  std::vector<int64_t*> bag_sizes_;
  Parts chunks_;
  Parts row_tasks_;
};

// The tasks of the search: blocks of positions. The one with the first bad id, or their number.
int64_t first_bad_block(const splitop_multi_table_update& update, const Parts& blocks,
                        const splitop_executor& executor) {
  std::atomic<int64_t> first{blocks.total()};
  const double flops = kFlopsPerSortedId * kCheckedIds * static_cast<double>(blocks.total());
  parallel_tasks(executor, executor.num_workers, blocks.total(), flops, [&](int64_t task, int32_t) {
    const auto [i, block] = blocks.at(task);
    const splitop_table_update& table = update.tables[i];
    const int64_t begin = block * kCheckedIds;
    const int64_t end = std::min(begin + kCheckedIds, table.num_ids);
    if (first_bad(table, begin, end) == end) return;
    int64_t seen = first;
    while (task < seen && !first.compare_exchange_weak(seen, task)) {
    }
  });
  return first;
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_table_update_scratch_bytes(const splitop_multi_table_update* update,
                                              int32_t num_workers) {
  if (!splitop::valid(update) || num_workers < 1) return 0;
  return splitop::scratch_bytes(*update, num_workers);
}

splitop_status splitop_cpu_table_update(const splitop_multi_table_update* update, void* scratch,
                                        size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(update) || !splitop::valid(executor)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  const size_t needed = splitop::scratch_bytes(*update, executor->num_workers);
  if (scratch_bytes < needed || (scratch == nullptr && needed > 0)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  return update->dtype == SPLITOP_FLOAT32
             ? splitop::TableRun<float>(*update, scratch, *executor).run()
             : splitop::TableRun<double>(*update, scratch, *executor).run();
}

int32_t splitop_cpu_find_bad_id(const splitop_multi_table_update* update,
                                const splitop_executor* executor, int32_t* table,
                                int64_t* position) {
  if (!splitop::valid(update) || !splitop::valid(executor)) return 0;
  splitop::Parts blocks;
  for (int32_t i = 0; i < update->num_tables; ++i) {
    blocks.add(splitop::ceil_div(update->tables[i].num_ids, splitop::kCheckedIds));
  }
  const int64_t found = splitop::first_bad_block(*update, blocks, *executor);
  if (found == blocks.total()) return 0;
  const auto [i, block] = blocks.at(found);
  *table = static_cast<int32_t>(i);
  *position = splitop::first_bad(update->tables[i], block * splitop::kCheckedIds,
                                 update->tables[i].num_ids);
  return 1;
}
