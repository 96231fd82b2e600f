// The table update on CUDA devices: its scratch, and the order of launches.
#include "splitop/table_update.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cuda/current_device.h"
#include "kernels/cuda/failure.h"
#include "kernels/cuda/sort_pairs.h"
#include "kernels/cuda/strategy.h"
#include "kernels/cuda/table_kernels.h"

namespace splitop::cuda {
namespace {

constexpr size_t kAlignment = 256;  // of the parts of the scratch
constexpr int64_t kMost32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostKeys = std::numeric_limits<uint32_t>::max();
constexpr int64_t kMostWidth = int64_t{1} << 30;
constexpr int64_t kMostLanes = 32;
constexpr int64_t kBitsOfWord = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes == 0; }

// Bits that the values in [0, count) take.
int bits_below(int64_t count) {
  int bits = 0;
  while (int64_t{1} << bits < count) ++bits;
  return bits;
}

// ---- the plan ----

// Hands out places in the scratch, one after the other.
class Layout {
 public:
  size_t add(size_t bytes) {
    const size_t place = size_;
    size_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
};

struct TablePlan {
  TableEntry entry;  // without what is in the scratch
  bool counts_bags;
  bool all_rows;
  size_t bag_sizes, bag_factors, touched, partial_sums;  // places in the scratch
};

struct UpdatePlan {
  std::vector<TablePlan> tables;  // those that there is something to do for
  TableBlocks blocks = {};
  int64_t num_ids = 0;
  int64_t num_keys = 0;
  // Places in the scratch. From `zeros` to its end it has to be zeros at first.
  size_t entries, keys[2], positions[2], sort, zeros;
  size_t sort_bytes = 0;
  size_t scratch_bytes = 0;

  int key_bits() const { return bits_below(num_keys); }
};

class Planner {
 public:
  Planner(const splitop_multi_table_update& update, UpdatePlan* plan)
      : update_(update), plan_(*plan) {}

  splitop_status run() {
    for (int32_t i = 0; i < update_.num_tables; ++i) {
      const splitop_table_update& table = update_.tables[i];
      const bool any_row = table.num_ids > 0 || table.scope == SPLITOP_ALL_ROWS;
      if (table.rows == 0 || table.width == 0 || !any_row) continue;
      if (!add(table)) return SPLITOP_UNSUPPORTED;
    }
    return lay_out();
  }

 private:
  int64_t element_bytes() const { return static_cast<int64_t>(splitop_dtype_bytes(update_.dtype)); }

  // False if there is more of something than is counted.
  bool add(const splitop_table_update& table) {
    if (table.width > kMostWidth || table.num_ids > kMost32 - plan_.num_ids ||
        table.rows > kMostKeys - 1 - plan_.num_keys) {
      return false;
    }
    TablePlan plan = {};
    plan.entry = to_entry(table);
    plan.counts_bags = table.combiner != SPLITOP_COMBINER_SUM;
    plan.all_rows = table.scope == SPLITOP_ALL_ROWS;
    plan_.num_ids += table.num_ids;
    plan_.num_keys += table.rows + 1;
    const bool counted = add_blocks(table, plan.all_rows, &plan.entry);
    plan_.tables.push_back(plan);
    return counted;
  }

  TableEntry to_entry(const splitop_table_update& table) const {
    TableEntry entry = {};
    entry.ids = table.ids;
    entry.gradient = table.gradient;
    entry.gradient_row = table.gradient_row;
    entry.id_weights = table.id_weights;
    entry.value = table.variable.value;
    std::copy_n(table.variable.slots, SPLITOP_MAX_SLOTS, entry.slots);
    entry.rows = table.rows;
    entry.width = static_cast<int32_t>(table.width);
    entry.gradient_rows = table.gradient_rows;
    entry.num_ids = static_cast<uint32_t>(table.num_ids);
    entry.first_slot = static_cast<uint32_t>(plan_.num_ids);
    entry.first_key = static_cast<uint32_t>(plan_.num_keys);
    entry.wide_ids = table.id_type == SPLITOP_INT64;
    entry.wide_gradient_row = table.gradient_row_type == SPLITOP_INT64;
    entry.combiner = static_cast<uint8_t>(table.combiner);
    entry.sums_squares = table.sums_squares != 0;
    entry.decayed = table.variable.decayed != 0;
    entry.aligned_variable = aligned_variable(table.variable);
    entry.aligned_rows = entry.aligned_variable && aligned(table.gradient) &&
                         aligned_rows(table.width, update_.dtype);
    entry.lanes_log2 = static_cast<uint8_t>(lanes_log2(table.width, entry.aligned_rows));
    return entry;
  }

  bool aligned_variable(const splitop_variable& variable) const {
    return aligned(variable.value) &&
           std::all_of(variable.slots, variable.slots + splitop_num_slots(update_.rule), aligned);
  }

  int lanes_log2(int64_t width, bool packed) const {
    const int64_t pack = packed ? kPackBytes / element_bytes() : 1;
    return bits_below(std::min(ceil_div(width, pack), kMostLanes));
  }

  bool add_blocks(const splitop_table_update& table, bool all_rows, TableEntry* entry) {
    const int64_t lanes = table.num_ids << entry->lanes_log2;
    const int64_t elements = all_rows ? table.rows * table.width : 0;
    const int64_t bags = table.combiner == SPLITOP_COMBINER_SUM ? 0 : table.gradient_rows;
    // One at least: it copies the entry.
    const int64_t id_blocks = std::max<int64_t>(ceil_div(table.num_ids, kIdThreads), 1);
    // A long segment begins in a tile that has a whole one after it.
    const int64_t tiles = std::max<int64_t>(table.num_ids / kTileSlots - 1, 0);
    return add_blocks(id_blocks, &entry->id_block, &plan_.blocks.ids) &&
           add_blocks(ceil_div(bags, kBagThreads), &entry->bag_block, &plan_.blocks.bags) &&
           add_blocks(ceil_div(lanes, kRowThreads), &entry->row_block, &plan_.blocks.rows) &&
           add_blocks(tiles, &entry->long_row_block, &plan_.blocks.long_rows) &&
           add_blocks(ceil_div(elements, kRestThreads * kRestElements), &entry->rest_block,
                      &plan_.blocks.rest);
  }

  static bool add_blocks(int64_t count, int32_t* first, int32_t* total) {
    *first = *total;
    if (count > kMost32 - *total) return false;
    *total += static_cast<int32_t>(count);
    return true;
  }

  splitop_status lay_out() {
    if (plan_.num_ids > 0) {
      const splitop_status status = sort_pairs_bytes(static_cast<int32_t>(plan_.num_ids),
                                                     plan_.key_bits(), &plan_.sort_bytes);
      if (status != SPLITOP_OK) return status;
    }
    Layout layout;
    plan_.entries = layout.add(sizeof(TableEntry) * plan_.tables.size());
    for (int i = 0; i < 2; ++i) {
      plan_.keys[i] = layout.add(sizeof(uint32_t) * plan_.num_ids);
      plan_.positions[i] = layout.add(sizeof(uint32_t) * plan_.num_ids);
    }
    plan_.sort = layout.add(plan_.sort_bytes);
    for (TablePlan& table : plan_.tables) {
      table.partial_sums = layout.add(partial_bytes(table));
      table.bag_factors = layout.add(element_bytes() * bags(table));
    }
    plan_.zeros = layout.size();
    for (TablePlan& table : plan_.tables) {
      const int64_t words = table.all_rows ? ceil_div(table.entry.rows, kBitsOfWord) : 0;
      table.bag_sizes = layout.add(sizeof(int32_t) * bags(table));
      table.touched = layout.add(sizeof(uint32_t) * words);
    }
    plan_.scratch_bytes = layout.size();
    return SPLITOP_OK;
  }

  static int64_t bags(const TablePlan& table) {
    return table.counts_bags ? table.entry.gradient_rows : 0;
  }

  size_t partial_bytes(const TablePlan& table) const {
    const TableEntry& entry = table.entry;
    const int64_t tiles = ceil_div(entry.num_ids, kTileSlots);
    const int64_t rows = tiles * kPartialsOfTile * (entry.sums_squares ? 2 : 1);
    return tiles > 1 ? element_bytes() * rows * entry.width : 0;
  }

  const splitop_multi_table_update& update_;
  UpdatePlan& plan_;
};

splitop_status make_plan(const splitop_multi_table_update* update, UpdatePlan* plan) {
  if (!valid(update)) return SPLITOP_INVALID_ARGUMENT;
  splitop_cuda_device device;
  if (!current_device(&device) || splitop_is_rowwise(update->rule)) return SPLITOP_UNSUPPORTED;
  return Planner(*update, plan).run();
}

// ---- the run ----

splitop_status enqueue_zeros(void* to, size_t bytes, const Queue& queue) {
  if (bytes == 0 || queue.loads_only) return SPLITOP_OK;
  const cudaError_t error = cudaMemsetAsync(to, 0, bytes, queue.stream);
  return error == cudaSuccess ? SPLITOP_OK : cuda_failed("clearing", "the scratch", error);
}

class TablesRun {
 public:
  TablesRun(const splitop_multi_table_update& update, const UpdatePlan& plan, void* scratch)
      : update_(update),
        plan_(plan),
        kernels_(update.dtype == SPLITOP_FLOAT64 ? table_kernels_float64()
                                                 : table_kernels_float32()),
        scratch_(static_cast<unsigned char*>(scratch)) {}

  splitop_status run(cudaStream_t stream) {
    splitop_status status = enqueue_order(kLoadsOnly);
    if (status == SPLITOP_OK) status = enqueue_updates(kLoadsOnly);
    // CUB loads its kernels only now, so this too may fail.
    if (status == SPLITOP_OK) status = enqueue_order({stream, false});
    if (status != SPLITOP_OK) return with_remark(status, "no variable has changed");
    return with_remark(enqueue_updates({stream, false}), "variables may have been updated in part");
  }

 private:
  template <typename T>
  T* at(size_t place) const {
    return reinterpret_cast<T*>(scratch_ + place);
  }

  std::vector<TableEntry> entries() const {
    std::vector<TableEntry> entries;
    for (const TablePlan& table : plan_.tables) {
      TableEntry& entry = entries.emplace_back(table.entry);
      entry.partial_sums = at<void>(table.partial_sums);
      if (table.counts_bags) {
        entry.bag_sizes = at<int32_t>(table.bag_sizes);
        entry.bag_factors = at<void>(table.bag_factors);
      }
      if (table.all_rows) entry.touched = at<uint32_t>(table.touched);
    }
    return entries;
  }

  // No variable is read or written.
  splitop_status enqueue_order(const Queue& queue) {
    if (plan_.tables.empty()) return SPLITOP_OK;
    const PairBuffers pairs{{at<uint32_t>(plan_.keys[0]), at<uint32_t>(plan_.keys[1])},
                            {at<uint32_t>(plan_.positions[0]), at<uint32_t>(plan_.positions[1])}};
    splitop_status status =
        enqueue_zeros(at<void>(plan_.zeros), plan_.scratch_bytes - plan_.zeros, queue);
    if (status == SPLITOP_OK) {
      status = enqueue_ids(entries(), plan_.blocks.ids, at<TableEntry>(plan_.entries),
                           pairs.keys[0], pairs.values[0], queue);
    }
    if (status != SPLITOP_OK || plan_.num_ids == 0) return status;
    return sort_pairs(pairs, static_cast<int32_t>(plan_.num_ids), plan_.key_bits(),
                      at<void>(plan_.sort), plan_.sort_bytes, queue, &sorted_);
  }

  splitop_status enqueue_updates(const Queue& queue) const {
    const TableRowsArgs args{at<TableEntry>(plan_.entries),
                             static_cast<int32_t>(plan_.tables.size()), sorted_, update_.hyper};
    splitop_status status = SPLITOP_OK;
    if (plan_.blocks.bags > 0) status = kernels_.bag_factors(args, plan_.blocks.bags, queue);
    const auto enqueue = [&](auto kernel, int32_t num_blocks) {
      if (status != SPLITOP_OK || num_blocks == 0) return;
      status = kernel(update_.rule, args, num_blocks, queue);
    };
    enqueue(kernels_.rows, plan_.blocks.rows);
    enqueue(kernels_.long_rows, plan_.blocks.long_rows);
    enqueue(kernels_.rest, plan_.blocks.rest);
    return status;
  }

  const splitop_multi_table_update& update_;
  const UpdatePlan& plan_;
  const TableKernels& kernels_;
  unsigned char* const scratch_;
  Pairs sorted_ = {};
};

}  // namespace
}  // namespace splitop::cuda

size_t splitop_cuda_table_update_scratch_bytes(const splitop_multi_table_update* update) {
  splitop::cuda::UpdatePlan plan;
  return splitop::cuda::make_plan(update, &plan) == SPLITOP_OK ? plan.scratch_bytes : 0;
}

splitop_status splitop_cuda_table_update(const splitop_multi_table_update* update, void* scratch,
                                         size_t scratch_bytes, splitop_cuda_stream stream) {
  splitop::cuda::UpdatePlan plan;
  const splitop_status status = splitop::cuda::make_plan(update, &plan);
  if (status != SPLITOP_OK) return status;
  if (scratch_bytes < plan.scratch_bytes || (scratch == nullptr && plan.scratch_bytes > 0) ||
      reinterpret_cast<uintptr_t>(scratch) % splitop::cuda::kAlignment != 0) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  return splitop::cuda::TablesRun(*update, plan, scratch).run(stream);
}
