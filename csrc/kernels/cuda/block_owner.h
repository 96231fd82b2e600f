// Which of the things that share a launch a block belongs to.
#ifndef SPLITOP_KERNELS_CUDA_BLOCK_OWNER_H_
#define SPLITOP_KERNELS_CUDA_BLOCK_OWNER_H_

#include <cuda_runtime.h>
#include <stdint.h>

namespace splitop::cuda {

// The last entry whose first block is not after `block`: entries without blocks are passed over.
template <typename Entry>
__device__ __forceinline__ int block_owner(const Entry* entries, int num_entries,
                                           int32_t Entry::* first_block, int block) {
  int low = 0;
  int high = num_entries;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (entries[middle].*first_block <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_BLOCK_OWNER_H_
