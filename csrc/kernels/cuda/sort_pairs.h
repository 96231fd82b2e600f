// The sort that orders the ids of tables. The only place that CUB is used in.
#ifndef SPLITOP_KERNELS_CUDA_SORT_PAIRS_H_
#define SPLITOP_KERNELS_CUDA_SORT_PAIRS_H_

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/queue.h"
#include "splitop/status.h"

namespace splitop::cuda {

// A key and a value for each pair; twice, so that a pass of the sort reads one and writes the
// other.
struct PairBuffers {
  uint32_t* keys[2];
  uint32_t* values[2];
};

struct Pairs {
  const uint32_t* keys;
  const uint32_t* values;
};

// The temporary memory of a sort, in bytes. Asks the current device, and starts nothing.
splitop_status sort_pairs_bytes(int32_t count, int key_bits, size_t* bytes);

// Sorts the pairs in buffers.keys[0] and buffers.values[0] by key; equal keys keep their order.
// key_bits: of the keys that may be set. Where `sorted` points to is known at once. With a queue
// that only loads nothing is done: CUB loads a kernel when it first takes it.
splitop_status sort_pairs(const PairBuffers& buffers, int32_t count, int key_bits, void* temporary,
                          size_t temporary_bytes, const Queue& queue, Pairs* sorted);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_SORT_PAIRS_H_
