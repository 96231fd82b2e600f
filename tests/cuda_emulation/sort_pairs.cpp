// What csrc/kernels/cuda/sort_pairs.cu does with CUB, done on the CPU. The sorted pairs are in
// either of the buffers, as CUB has it; the other one and the temporary memory hold rubbish.
#include "kernels/cuda/sort_pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace splitop::cuda {
namespace {

constexpr int kRubbish = 0xA5;

void check_keys(const uint32_t* keys, int32_t count, int key_bits) {
  for (int32_t i = 0; i < count; ++i) {
    if (uint64_t{keys[i]} >> key_bits == 0) continue;
    fprintf(stderr, "splitop emulation: sort_pairs: key %u has more than %d bits\n", keys[i],
            key_bits);
    abort();
  }
}

}  // namespace

splitop_status sort_pairs_bytes(int32_t count, int, size_t* bytes) {
  *bytes = 1000 + static_cast<size_t>(count) / 8;
  return SPLITOP_OK;
}

splitop_status sort_pairs(const PairBuffers& buffers, int32_t count, int key_bits, void* temporary,
                          size_t temporary_bytes, const Queue& queue, Pairs* sorted) {
  if (queue.loads_only) return SPLITOP_OK;
  check_keys(buffers.keys[0], count, key_bits);
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return buffers.keys[0][a] < buffers.keys[0][b]; });
  for (int32_t i = 0; i < count; ++i) {
    buffers.keys[1][i] = buffers.keys[0][order[i]];
    buffers.values[1][i] = buffers.values[0][order[i]];
  }
  const int place = (key_bits + 7) / 8 % 2;  // after as many passes
  if (place == 0) {
    std::copy_n(buffers.keys[1], count, buffers.keys[0]);
    std::copy_n(buffers.values[1], count, buffers.values[0]);
  }
  memset(buffers.keys[1 - place], kRubbish, sizeof(uint32_t) * count);
  memset(buffers.values[1 - place], kRubbish, sizeof(uint32_t) * count);
  memset(temporary, kRubbish, temporary_bytes);
  *sorted = {buffers.keys[place], buffers.values[place]};
  return SPLITOP_OK;
}

}  // namespace splitop::cuda
