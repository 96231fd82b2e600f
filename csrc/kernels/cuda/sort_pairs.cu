#include "kernels/cuda/sort_pairs.h"

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/failure.h"

namespace splitop::cuda {
namespace {

splitop_status to_status(const char* doing, cudaError_t error) {
  return error == cudaSuccess ? SPLITOP_OK : cuda_failed(doing, "the ids of tables", error);
}

cub::DoubleBuffer<uint32_t> double_buffer(uint32_t* const (&buffers)[2]) {
  return {buffers[0], buffers[1]};
}

}  // namespace

splitop_status sort_pairs_bytes(int32_t count, int key_bits, size_t* bytes) {
  cub::DoubleBuffer<uint32_t> keys;
  cub::DoubleBuffer<uint32_t> values;
  *bytes = 0;
  return to_status("planning the sort of", cub::DeviceRadixSort::SortPairs(
                                               nullptr, *bytes, keys, values, count, 0, key_bits));
}

splitop_status sort_pairs(const PairBuffers& buffers, int32_t count, int key_bits, void* temporary,
                          size_t temporary_bytes, const Queue& queue, Pairs* sorted) {
  if (queue.loads_only) return SPLITOP_OK;
  cub::DoubleBuffer<uint32_t> keys = double_buffer(buffers.keys);
  cub::DoubleBuffer<uint32_t> values = double_buffer(buffers.values);
  const cudaError_t error = cub::DeviceRadixSort::SortPairs(
      temporary, temporary_bytes, keys, values, count, 0, key_bits, queue.stream);
  *sorted = {keys.Current(), values.Current()};
  return to_status("sorting", error);
}

}  // namespace splitop::cuda
