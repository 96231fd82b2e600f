// From ids to the pairs that are sorted.
#include <algorithm>

#include "kernels/cuda/block_owner.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/table_kernels.h"

namespace splitop::cuda {
namespace {

template <int kEntries>
struct TableList {
  TableEntry entries[kEntries];
  int32_t num_entries;
  int32_t first_block;
  TableEntry* device_entries;
  uint32_t* keys;
  uint32_t* positions;
};
// A launch takes 32,764 bytes of arguments at most (compute capability 7.0, CUDA 12.1).
static_assert(sizeof(TableList<kTableLists[1]>) <= 32764);

__device__ __forceinline__ int64_t index_at(const void* indices, bool wide, uint32_t position) {
  return wide ? static_cast<const int64_t*>(indices)[position]
              : static_cast<const int32_t*>(indices)[position];
}

template <int kEntries>
__global__ __launch_bounds__(kIdThreads) void table_ids_kernel(
    const __grid_constant__ TableList<kEntries> list) {
  const int block = list.first_block + static_cast<int>(blockIdx.x);
  const int index = block_owner(list.entries, list.num_entries, &TableEntry::id_block, block);
  const TableEntry& table = list.entries[index];
  const int64_t position = int64_t{block - table.id_block} * kIdThreads + threadIdx.x;
  if (position == 0) list.device_entries[index] = table;
  if (position >= table.num_ids) return;

  const auto p = static_cast<uint32_t>(position);
  const int64_t id = index_at(table.ids, table.wide_ids, p);
  const bool in_range = id >= 0 && id < table.rows;
  list.keys[table.first_slot + p] =
      table.first_key + static_cast<uint32_t>(in_range ? id : table.rows);
  list.positions[table.first_slot + p] = p;

  if (table.bag_sizes == nullptr) return;
  const int64_t bag = index_at(table.gradient_row, table.wide_gradient_row, p);
  if (bag >= 0 && bag < table.gradient_rows) atomicAdd(table.bag_sizes + bag, 1);
}

template <int kEntries>
splitop_status launch_list(const TableEntry* entries, int count, int32_t end_block,
                           TableEntry* device_entries, uint32_t* keys, uint32_t* positions,
                           const Queue& queue) {
  TableList<kEntries> list = {};
  std::copy_n(entries, count, list.entries);
  list.num_entries = count;
  list.first_block = entries->id_block;
  list.device_entries = device_entries;
  list.keys = keys;
  list.positions = positions;
  return enqueue(queue, "table_ids_kernel", table_ids_kernel<kEntries>,
                 dim3(static_cast<unsigned>(end_block - list.first_block)), dim3(kIdThreads), 0,
                 list);
}

}  // namespace

splitop_status enqueue_ids(const std::vector<TableEntry>& entries, int32_t num_blocks,
                           TableEntry* device_entries, uint32_t* keys, uint32_t* positions,
                           const Queue& queue) {
  constexpr size_t kMost = kTableLists[1];
  for (size_t first = 0; first < entries.size(); first += kMost) {
    const size_t count = std::min(kMost, entries.size() - first);
    const bool last = first + count == entries.size();
    const auto launch =
        count <= kTableLists[0] ? launch_list<kTableLists[0]> : launch_list<kTableLists[1]>;
    const splitop_status status = launch(&entries[first], static_cast<int>(count),
                                         last ? num_blocks : entries[first + count].id_block,
                                         device_entries + first, keys, positions, queue);
    if (status != SPLITOP_OK) return status;
  }
  return SPLITOP_OK;
}

}  // namespace splitop::cuda
