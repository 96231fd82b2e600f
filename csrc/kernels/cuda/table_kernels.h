// What the device code of the table update offers to its host code. Everything is enqueued on the
// queue's stream.
//
// The positions of all tables' ids are sorted together. Each becomes a pair: the key tells the
// table and the row, the value is the position in its table. A table has a key for each of its
// rows, and one more for the ids that are out of range: so its pairs are sorted to the places,
// "slots", that the number of its ids says. The slots with the same key are a segment.
//
// A segment's gradients are summed up in order by a few lanes, which apply the rule to the row. One
// that covers the whole tile of slots after the one it begins in is long, and is cut at the tiles:
// its parts are summed up by lanes of their own into partial sums, which a block then adds up.
#ifndef SPLITOP_KERNELS_CUDA_TABLE_KERNELS_H_
#define SPLITOP_KERNELS_CUDA_TABLE_KERNELS_H_

#include <stdint.h>

#include <vector>

#include "kernels/cuda/queue.h"
#include "kernels/cuda/sort_pairs.h"
#include "splitop/status.h"
#include "splitop/table_update.h"
#include "splitop/update_rule.h"

namespace splitop::cuda {

constexpr int kTileSlots = 16;
constexpr int kPartialsOfTile = 2;  // of a long segment from before the tile, of one from within

constexpr int kIdThreads = 256;   // an id each
constexpr int kBagThreads = 256;  // a bag each
constexpr int kRowThreads = 256;  // as many lanes of them a row as its entry says
constexpr int kLongRowThreads = 256;
constexpr int kRestThreads = 256;
constexpr int kRestElements = 16;  // of a thread

// A table in the device's code.
struct TableEntry {
  const void* ids;
  const void* gradient;
  const void* gradient_row;  // or NULL
  const void* id_weights;    // or NULL
  int32_t* bag_sizes;        // [gradient_rows], zeros at first; NULL where no factor depends on it
  void* bag_factors;         // [gradient_rows], made from the sizes; NULL likewise
  void* value;
  void* slots[SPLITOP_MAX_SLOTS];
  void* partial_sums;  // for each tile kPartialsOfTile times a row, or two where squares are summed
  uint32_t* touched;   // a bit for each row, 0 at first: 1 if it was looked up; NULL: not wanted
  int64_t rows;
  int32_t width;
  int64_t gradient_rows;
  uint32_t num_ids;
  uint32_t first_slot;
  uint32_t first_key;
  // The first block of each kernel that is the table's.
  int32_t id_block;
  int32_t bag_block;
  int32_t row_block;
  int32_t long_row_block;
  int32_t rest_block;
  uint8_t wide_ids;  // int64
  uint8_t wide_gradient_row;
  uint8_t combiner;
  uint8_t sums_squares;
  uint8_t decayed;
  uint8_t lanes_log2;        // of a row
  uint8_t aligned_rows;      // every row of gradient, value and slots is, to packs
  uint8_t aligned_variable;  // value and slots are
};

// How many blocks of each kernel there are, for all tables.
struct TableBlocks {
  int32_t ids;
  int32_t bags;
  int32_t rows;
  int32_t long_rows;
  int32_t rest;
};

// The longest list that each of the ids kernel's tables holds; the last one is of a whole launch.
constexpr int kTableLists[] = {8, 128};

// Copies the entries to the device, makes the pairs, and counts the bags. entries: in the order of
// their blocks. num_blocks: of all of them.
splitop_status enqueue_ids(const std::vector<TableEntry>& entries, int32_t num_blocks,
                           TableEntry* device_entries, uint32_t* keys, uint32_t* positions,
                           const Queue& queue);

struct TableRowsArgs {
  const TableEntry* entries;  // device memory
  int32_t num_entries;
  Pairs pairs;
  const void* hyper;
};

// In this order, for a type of all but indices: the bags' factors are made; the rows with a short
// segment are updated, and the long segments' partial sums are made; the rows with a long segment
// are updated; those without any are.
struct TableKernels {
  splitop_status (*bag_factors)(const TableRowsArgs& args, int32_t num_blocks, const Queue& queue);
  splitop_status (*rows)(splitop_update_rule rule, const TableRowsArgs& args, int32_t num_blocks,
                         const Queue& queue);
  splitop_status (*long_rows)(splitop_update_rule rule, const TableRowsArgs& args,
                              int32_t num_blocks, const Queue& queue);
  splitop_status (*rest)(splitop_update_rule rule, const TableRowsArgs& args, int32_t num_blocks,
                         const Queue& queue);
};

const TableKernels& table_kernels_float32();
const TableKernels& table_kernels_float64();

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_TABLE_KERNELS_H_
