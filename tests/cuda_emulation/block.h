// The block that is running: its threads are fibers, one of which runs at a time.
//
// Between two barriers the warps run one after the other, each right up to the next barrier, in an
// order drawn at random; so do the lanes of a warp between two warp operations. Two accesses that
// no barrier orders are then made in the wrong order half of the time.
#ifndef SPLITOP_EMULATION_BLOCK_H_
#define SPLITOP_EMULATION_BLOCK_H_

#include <stddef.h>
#include <stdint.h>

#include "async_copies.h"

namespace splitop::emulation {

constexpr int kWarpSize = 32;
constexpr int kMaxWarps = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;

// What a warp operation gets: one argument of each lane that takes part.
using LaneArguments = void* const (&)[kWarpSize];

struct WarpOperation {
  const char* name;
  bool needs_all_lanes;
  void (*run)(LaneArguments arguments, uint32_t lanes);
};

// Waits for the other lanes of the mask; the last one to come runs the operation for them all.
// A lane that has left the kernel is not waited for; aborts if the operation needs it.
void meet(const WarpOperation& operation, uint32_t mask, void* argument);

// Aborts unless the bytes lie in the block's shared memory, aligned to `alignment`.
void check_shared(const char* operation, const void* address, size_t bytes, size_t alignment);

// Of the thread that is running.
AsyncCopies& async_copies();

// Says what is wrong, in which kernel, block and thread, and aborts.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_BLOCK_H_
