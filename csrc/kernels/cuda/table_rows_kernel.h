// The rows of embedding tables: their gradients' sums, each consumed by the update of its row.
#ifndef SPLITOP_KERNELS_CUDA_TABLE_ROWS_KERNEL_H_
#define SPLITOP_KERNELS_CUDA_TABLE_ROWS_KERNEL_H_

#include "kernels/cuda/block_owner.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/elementwise_rules.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/table_kernels.h"

namespace splitop::cuda {

constexpr int kTermsInFlight = 3;  // rows of `gradient`, of a lane; with four of them adam spills
constexpr int kPartialsInFlight = 8;

// Blocks of each kernel on an SM, at least: with any more, registers are spilled.
template <typename Rule>
constexpr int kRowBlocksPerSm = Rule::kNumSlots > 2 ? 2 : 3;
constexpr int kLongRowBlocksPerSm = 2;
constexpr int kRestBlocksPerSm = 4;

// ---- gradients ----

template <typename T, int kPack>
__device__ __forceinline__ void add(Pack<T, kPack>& sum, const Pack<T, kPack>& term) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) sum.at[i] += term.at[i];
}

template <typename T, int kPack>
__device__ __forceinline__ Pack<T, kPack> square(const Pack<T, kPack>& x) {
  Pack<T, kPack> result;
#pragma unroll
  for (int i = 0; i < kPack; ++i) result.at[i] = x.at[i] * x.at[i];
  return result;
}

// The terms of positions: which row of `gradient` each one has, multiplied by what.
template <typename T, int kPack>
class Terms {
 public:
  __device__ __forceinline__ Terms(const TableEntry& table, int col)
      : gradient_(static_cast<const T*>(table.gradient) + col),
        gradient_row_(table.gradient_row),
        weights_(static_cast<const T*>(table.id_weights)),
        bag_factors_(static_cast<const T*>(table.bag_factors)),
        rows_(table.gradient_rows),
        width_(table.width),
        wide_row_(table.wide_gradient_row) {}

  // kPack elements from the column on; zeros if the position adds nothing.
  __device__ __forceinline__ Pack<T, kPack> at(uint32_t position) const {
    Pack<T, kPack> term = {};
    const int64_t row = row_of(position);
    if (row < 0 || row >= rows_) return term;
    term = load_whole(reinterpret_cast<const Pack<T, kPack>*>(gradient_ + row * width_));
    T factor = T(1);
    if (weights_ != nullptr) factor = load_whole(weights_ + position);
    if (bag_factors_ != nullptr) factor *= load_whole(bag_factors_ + row);
#pragma unroll
    for (int i = 0; i < kPack; ++i) term.at[i] *= factor;
    return term;
  }

 private:
  __device__ __forceinline__ int64_t row_of(uint32_t position) const {
    if (gradient_row_ == nullptr) return position;
    return wide_row_ ? load_whole(static_cast<const int64_t*>(gradient_row_) + position)
                     : load_whole(static_cast<const int32_t*>(gradient_row_) + position);
  }

  const T* const gradient_;
  const void* const gradient_row_;
  const T* const weights_;
  const T* const bag_factors_;
  const int64_t rows_;
  const int width_;
  const bool wide_row_;
};

// ---- a table's slots ----

class Slots {
 public:
  __device__ __forceinline__ Slots(const TableEntry& table, const Pairs& pairs)
      : keys_(pairs.keys + table.first_slot),
        positions_(pairs.values + table.first_slot),
        count_(table.num_ids),
        first_key_(table.first_key) {}

  __device__ __forceinline__ uint32_t count() const { return count_; }
  __device__ __forceinline__ uint32_t key(uint32_t slot) const { return keys_[slot]; }
  __device__ __forceinline__ uint32_t position(uint32_t slot) const { return positions_[slot]; }
  __device__ __forceinline__ int64_t row(uint32_t key) const { return key - first_key_; }

  // Whether there is such a slot, with that key. Slots some tiles past the last one can be counted:
  // a table has fewer than 2^31.
  __device__ __forceinline__ bool has(uint32_t slot, uint32_t key) const {
    return slot < count_ && keys_[slot] == key;
  }

  // Whether a segment begins at the slot.
  __device__ __forceinline__ bool begins(uint32_t slot) const {
    return slot == 0 || keys_[slot - 1] != keys_[slot];
  }

  // Whether the segment that begins at the slot covers the whole tile after the slot's.
  __device__ __forceinline__ bool begins_long(uint32_t slot) const {
    return has(tile_end(slot) + kTileSlots - 1, keys_[slot]);
  }

  // The same for the segment that goes on at the slot, which is the first one of its tile: the
  // tile after the one that it begins in is this tile or an earlier one.
  __device__ __forceinline__ bool continues_long(uint32_t slot) const {
    const uint32_t key = keys_[slot];
    return has(tile_end(slot) - 1, key) ||
           (slot > kTileSlots && keys_[slot - kTileSlots - 1] == key);
  }

  static __device__ __forceinline__ uint32_t tile_end(uint32_t slot) {
    return (slot / kTileSlots + 1) * kTileSlots;
  }

 private:
  const uint32_t* keys_;
  const uint32_t* positions_;
  uint32_t count_;
  uint32_t first_key_;
};

// The sum of the segment's terms, or of their squares, from the slot on but not past `end`, in
// order.
template <typename T, int kPack, bool kSquares>
__device__ __forceinline__ Pack<T, kPack> sum_terms(const TableEntry& table, const Slots& slots,
                                                    uint32_t slot, uint32_t end, int col) {
  const Terms<T, kPack> terms(table, col);
  const uint32_t key = slots.key(slot);
  Pack<T, kPack> sum = {};
  for (; slot < end; slot += kTermsInFlight) {
    Pack<T, kPack> term[kTermsInFlight];
    bool inside[kTermsInFlight];
#pragma unroll
    for (int i = 0; i < kTermsInFlight; ++i) {
      inside[i] = slot + i < end && slots.has(slot + i, key);
      if (inside[i]) term[i] = terms.at(slots.position(slot + i));
    }
#pragma unroll
    for (int i = 0; i < kTermsInFlight; ++i) {
      if (inside[i]) add(sum, kSquares ? square(term[i]) : term[i]);
    }
    if (!inside[kTermsInFlight - 1]) break;
  }
  return sum;
}

// ---- a variable ----

// Elements [at, at + kPack) of value and slots, while they are updated.
template <typename T, typename Rule, int kPack, bool kStreaming>
class VariablePack {
 public:
  __device__ __forceinline__ VariablePack(const TableEntry& table, int64_t at)
      : table_(table), at_(at) {
    w_ = load_whole(address(table.value));
    if constexpr (Rule::kNumSlots > 0) s0_ = load(address(table.slots[0]));
    if constexpr (Rule::kNumSlots > 1) s1_ = load(address(table.slots[1]));
    if constexpr (Rule::kNumSlots > 2) s2_ = load(address(table.slots[2]));
  }

  __device__ __forceinline__ void update(const Rule& rule, int i, T g, T gg) {
    rule(g, gg, w_.at[i], s0_.at[i], s1_.at[i], s2_.at[i]);
  }

  __device__ __forceinline__ void update(const Rule& rule, const Pack<T, kPack>& g,
                                         const Pack<T, kPack>& gg) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) update(rule, i, g.at[i], gg.at[i]);
  }

  // All addresses come first: after a store the entry would have to be read again.
  __device__ __forceinline__ void store() const {
    Vector* const value = address(table_.value);
    Vector* const slot0 = address(table_.slots[0]);
    Vector* const slot1 = address(table_.slots[1]);
    Vector* const slot2 = address(table_.slots[2]);
    store_whole(value, w_);
    if constexpr (Rule::kNumSlots > 0) store(slot0, s0_);
    if constexpr (Rule::kNumSlots > 1) store(slot1, s1_);
    if constexpr (Rule::kNumSlots > 2) store(slot2, s2_);
  }

 private:
  using Vector = Pack<T, kPack>;

  __device__ __forceinline__ Vector* address(void* tensor) const {
    return reinterpret_cast<Vector*>(static_cast<T*>(tensor) + at_);
  }
  static __device__ __forceinline__ Vector load(const Vector* from) {
    return kStreaming ? load_streaming(from) : load_whole(from);
  }
  static __device__ __forceinline__ void store(Vector* to, const Vector& value) {
    if constexpr (kStreaming) {
      store_streaming(to, value);
    } else {
      store_whole(to, value);
    }
  }

  const TableEntry& table_;
  const int64_t at_;
  Vector w_;
  Vector s0_ = {};
  Vector s1_ = {};
  Vector s2_ = {};
};

// ---- partial sums ----

// Of a tile there are two: of a long segment that goes on in it, and of one that begins in it; of
// each one a row of sums, and one of sums of squares if they are wanted.
template <typename T, int kPack>
__device__ __forceinline__ Pack<T, kPack>* partial_sum(const TableEntry& table, int64_t tile,
                                                       bool begins, bool squares, int col) {
  const int64_t rows = table.sums_squares ? 2 : 1;
  const int64_t row = (tile * kPartialsOfTile + begins) * rows + squares;
  return reinterpret_cast<Pack<T, kPack>*>(static_cast<T*>(table.partial_sums) + row * table.width +
                                           col);
}

// ---- factors of bags ----

template <typename T>
__global__ __launch_bounds__(kBagThreads) void table_bags_kernel(const TableRowsArgs args) {
  const int block = static_cast<int>(blockIdx.x);
  const TableEntry& table =
      args.entries[block_owner(args.entries, args.num_entries, &TableEntry::bag_block, block)];
  const int64_t bag = int64_t{block - table.bag_block} * kBagThreads + threadIdx.x;
  if (bag >= table.gradient_rows) return;
  const T size = static_cast<T>(table.bag_sizes[bag]);  // 0: no position will ask
  static_cast<T*>(table.bag_factors)[bag] =
      T(1) / (table.combiner == SPLITOP_COMBINER_MEAN ? size : square_root(size));
}

// ---- short segments, and the parts of long ones ----

// What the lanes of one slot do, if a segment begins there, or a part of a long one.
template <typename T, typename Rule, int kPack>
__device__ __forceinline__ void process_slot(const TableEntry& table, const Slots& slots,
                                             const T* hyper, uint32_t slot, int lane) {
  const uint32_t key = slots.key(slot);
  const int64_t row = slots.row(key);
  if (row == table.rows) return;  // ids out of range
  const bool begins = slots.begins(slot);
  if (!begins && (slot % kTileSlots != 0 || !slots.continues_long(slot))) return;
  const bool is_long = !begins || slots.begins_long(slot);
  if (begins && lane == 0 && table.touched != nullptr) {
    atomicOr(table.touched + row / 32, uint32_t{1} << row % 32);
  }
  const int64_t tile = slot / kTileSlots;
  const uint32_t end = is_long ? Slots::tile_end(slot) : slots.count();
  const bool sums_squares = table.sums_squares && slots.has(slot + 1, key);
  for (int col = lane * kPack; col < table.width; col += kPack << table.lanes_log2) {
    // Read first, as the address does not depend on the positions.
    VariablePack<T, Rule, kPack, false> variable(table, row * table.width + col);
    const Pack<T, kPack> g = sum_terms<T, kPack, false>(table, slots, slot, end, col);
    Pack<T, kPack> gg = square(g);
    if (sums_squares) gg = sum_terms<T, kPack, true>(table, slots, slot, end, col);
    if (!is_long) {
      variable.update(Rule(hyper, table.decayed), g, gg);
      variable.store();
      continue;
    }
    store_whole(partial_sum<T, kPack>(table, tile, begins, false, col), g);
    if (table.sums_squares) store_whole(partial_sum<T, kPack>(table, tile, begins, true, col), gg);
  }
}

template <typename T, typename Rule>
__global__ __launch_bounds__(kRowThreads, kRowBlocksPerSm<Rule>) void table_rows_kernel(
    const TableRowsArgs args) {
  const int block = static_cast<int>(blockIdx.x);
  const TableEntry& table =
      args.entries[block_owner(args.entries, args.num_entries, &TableEntry::row_block, block)];
  const int lane = static_cast<int>(threadIdx.x) & ((1 << table.lanes_log2) - 1);
  const int64_t slot =
      (int64_t{block - table.row_block} * kRowThreads + threadIdx.x) >> table.lanes_log2;
  if (slot >= table.num_ids) return;
  const Slots slots(table, args.pairs);
  const auto* const hyper = static_cast<const T*>(args.hyper);
  if (table.aligned_rows) {
    process_slot<T, Rule, kPackCount<T>>(table, slots, hyper, static_cast<uint32_t>(slot), lane);
  } else {
    process_slot<T, Rule, 1>(table, slots, hyper, static_cast<uint32_t>(slot), lane);
  }
}

// ---- long segments: a block for each tile that one may begin in ----

// The tile after the last one that begins with the key; the one after `tile` does.
__device__ __forceinline__ int64_t end_of_tiles(const Slots& slots, int64_t tile, uint32_t key) {
  int64_t last = tile + 1;
  int64_t end = (int64_t{slots.count()} + kTileSlots - 1) / kTileSlots;
  while (end - last > 1) {
    const int64_t middle = (last + end) / 2;
    if (slots.key(static_cast<uint32_t>(middle * kTileSlots)) == key) {
      last = middle;
    } else {
      end = middle;
    }
  }
  return end;
}

// The sum of the partial sums of tiles [begin, end), in order, of a segment that begins in `first`.
template <typename T, int kPack>
__device__ __forceinline__ Pack<T, kPack> sum_partial_sums(const TableEntry& table, int64_t first,
                                                           int64_t begin, int64_t end, bool squares,
                                                           int col) {
  Pack<T, kPack> sum = {};
  for (; begin < end; begin += kPartialsInFlight) {
    Pack<T, kPack> parts[kPartialsInFlight];
#pragma unroll
    for (int i = 0; i < kPartialsInFlight; ++i) {
      parts[i] = {};
      const int64_t tile = begin + i;
      if (tile < end)
        parts[i] = load_whole(partial_sum<T, kPack>(table, tile, tile == first, squares, col));
    }
#pragma unroll
    for (int i = 0; i < kPartialsInFlight; ++i) add(sum, parts[i]);
  }
  return sum;
}

// What the block's threads have summed up, group by group, in the groups' order.
template <typename T, int kPack>
__device__ __forceinline__ Pack<T, kPack> sum_groups(const Pack<T, kPack>* found, int lanes) {
  Pack<T, kPack> sum = found[0];
  for (int at = lanes; at < kLongRowThreads; at += lanes) add(sum, found[at]);
  return sum;
}

// The block's threads, in groups of as many lanes as a row has, each sum up their share of the
// tiles; the first group adds up what all have found.
template <typename T, typename Rule, int kPack>
__device__ __forceinline__ void update_long_row(const TableEntry& table, const Slots& slots,
                                                const T* hyper, int64_t tile, uint32_t key) {
  auto* const sums = reinterpret_cast<Pack<T, kPack>*>(shared_memory());
  auto* const squares = sums + kLongRowThreads;
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = 1 << table.lanes_log2;
  const int groups = kLongRowThreads >> table.lanes_log2;
  const int64_t last = end_of_tiles(slots, tile, key);
  const int64_t share = (last - tile + groups - 1) / groups;
  const int64_t begin = tile + (thread >> table.lanes_log2) * share;
  const int64_t end = min(begin + share, last);
  for (int first_col = 0; first_col < table.width; first_col += lanes * kPack) {
    const int col = first_col + (thread & (lanes - 1)) * kPack;
    const bool inside = col < table.width;
    if (inside) {
      sums[thread] = sum_partial_sums<T, kPack>(table, tile, begin, end, false, col);
      if (table.sums_squares) {
        squares[thread] = sum_partial_sums<T, kPack>(table, tile, begin, end, true, col);
      }
    }
    __syncthreads();
    if (thread < lanes && inside) {
      VariablePack<T, Rule, kPack, false> variable(table, slots.row(key) * table.width + col);
      const Pack<T, kPack> g = sum_groups(sums + thread, lanes);
      const Pack<T, kPack> gg =
          table.sums_squares ? sum_groups(squares + thread, lanes) : square(g);
      variable.update(Rule(hyper, table.decayed), g, gg);
      variable.store();
    }
    __syncthreads();
  }
}

// Sums and squares.
constexpr size_t kLongRowSharedBytes = 2 * kLongRowThreads * kPackBytes;

template <typename T, typename Rule>
__global__ __launch_bounds__(kLongRowThreads, kLongRowBlocksPerSm) void table_long_rows_kernel(
    const TableRowsArgs args) {
  const int block = static_cast<int>(blockIdx.x);
  const TableEntry& table =
      args.entries[block_owner(args.entries, args.num_entries, &TableEntry::long_row_block, block)];
  const Slots slots(table, args.pairs);
  const int64_t tile = block - table.long_row_block;
  const int64_t last_slot = (tile + 1) * kTileSlots - 1;
  const uint32_t key = slots.key(static_cast<uint32_t>(last_slot));
  if (!slots.has(static_cast<uint32_t>(last_slot + kTileSlots), key)) return;
  if (tile > 0 && slots.key(static_cast<uint32_t>(last_slot - kTileSlots)) == key) return;
  if (slots.row(key) == table.rows) return;  // ids out of range
  const auto* const hyper = static_cast<const T*>(args.hyper);
  if (table.aligned_rows) {
    update_long_row<T, Rule, kPackCount<T>>(table, slots, hyper, tile, key);
  } else {
    update_long_row<T, Rule, 1>(table, slots, hyper, tile, key);
  }
}

// ---- rows that were not looked up ----

// The table's elements, whichever rows they are in. A pack with some elements to leave as they are
// is written whole.
template <typename T, typename Rule, int kPack>
__device__ __forceinline__ void update_untouched(const TableEntry& table, const Rule& rule,
                                                 int64_t begin, int64_t end) {
  const int64_t first_row = begin / table.width;
  const uint32_t* const touched = table.touched;
  const auto first_col = static_cast<uint32_t>(begin - first_row * table.width);
  const auto width = static_cast<uint32_t>(table.width);
  for (int64_t at = begin + threadIdx.x * kPack; at < end; at += kRestThreads * kPack) {
    const uint32_t cols = first_col + static_cast<uint32_t>(at - begin);
    int64_t row = first_row + cols / width;
    uint32_t col = cols % width;
    bool untouched[kPack];
    bool any = false;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      untouched[i] = (touched[row / 32] >> row % 32 & 1) == 0;
      any |= untouched[i];
      if (++col == width) {
        col = 0;
        if (i + 1 < kPack) ++row;
      }
    }
    if (!any) continue;
    VariablePack<T, Rule, kPack, true> variable(table, at);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      if (untouched[i]) variable.update(rule, i, T(0), T(0));
    }
    variable.store();
  }
}

template <typename T, typename Rule>
__global__ __launch_bounds__(kRestThreads,
                             kRestBlocksPerSm) void table_rest_kernel(const TableRowsArgs args) {
  const int block = static_cast<int>(blockIdx.x);
  const TableEntry& table =
      args.entries[block_owner(args.entries, args.num_entries, &TableEntry::rest_block, block)];
  const Rule rule(static_cast<const T*>(args.hyper), table.decayed);
  constexpr int64_t kBlockElements = kRestThreads * kRestElements;
  const int64_t begin = int64_t{block - table.rest_block} * kBlockElements;
  const int64_t end = min(begin + kBlockElements, table.rows * table.width);
  constexpr int kPack = kPackCount<T>;
  int64_t packed = begin;
  if (table.aligned_variable) {
    packed = end - (end - begin) % kPack;
    update_untouched<T, Rule, kPack>(table, rule, begin, packed);
  }
  update_untouched<T, Rule, 1>(table, rule, packed, end);
}

// ---- launches ----

template <typename T>
splitop_status enqueue_table_bags(const TableRowsArgs& args, int32_t num_blocks,
                                  const Queue& queue) {
  return enqueue(queue, "table_bags_kernel", table_bags_kernel<T>,
                 dim3(static_cast<unsigned>(num_blocks)), dim3(kBagThreads), 0, args);
}

template <typename T>
splitop_status enqueue_table_rows(splitop_update_rule rule, const TableRowsArgs& args,
                                  int32_t num_blocks, const Queue& queue) {
  return with_elementwise_rule<T>(rule, [&](auto tag) {
    return enqueue(queue, "table_rows_kernel", table_rows_kernel<T, typename decltype(tag)::Rule>,
                   dim3(static_cast<unsigned>(num_blocks)), dim3(kRowThreads), 0, args);
  });
}

template <typename T>
splitop_status enqueue_table_long_rows(splitop_update_rule rule, const TableRowsArgs& args,
                                       int32_t num_blocks, const Queue& queue) {
  return with_elementwise_rule<T>(rule, [&](auto tag) {
    return enqueue(
        queue, "table_long_rows_kernel", table_long_rows_kernel<T, typename decltype(tag)::Rule>,
        dim3(static_cast<unsigned>(num_blocks)), dim3(kLongRowThreads), kLongRowSharedBytes, args);
  });
}

template <typename T>
splitop_status enqueue_table_rest(splitop_update_rule rule, const TableRowsArgs& args,
                                  int32_t num_blocks, const Queue& queue) {
  return with_elementwise_rule<T>(rule, [&](auto tag) {
    return enqueue(queue, "table_rest_kernel", table_rest_kernel<T, typename decltype(tag)::Rule>,
                   dim3(static_cast<unsigned>(num_blocks)), dim3(kRestThreads), 0, args);
  });
}

template <typename T>
const TableKernels& table_kernels() {
  static const TableKernels kernels = {enqueue_table_bags<T>, enqueue_table_rows<T>,
                                       enqueue_table_long_rows<T>, enqueue_table_rest<T>};
  return kernels;
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_TABLE_ROWS_KERNEL_H_
