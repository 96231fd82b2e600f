#include "block.h"

#include <cuda_runtime.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <mutex>
#include <vector>

#include "emulated_launch.h"
#include "emulated_primitives.h"
#include "fiber.h"
#include "random_order.h"
#include "runtime.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace splitop::emulation {
namespace {

constexpr size_t kSharedAlignment = 128;

uint32_t seed() {
  const char* const text = getenv("SPLITOP_EMULATION_SEED");
  return text ? static_cast<uint32_t>(strtoul(text, nullptr, 10)) : 0;
}

struct Thread {
  Fiber fiber;
  uint3 index;
  int warp, lane;
  AsyncCopies copies;
};

// The lanes of a warp that have come to an operation so far.
struct Meeting {
  const WarpOperation* operation = nullptr;
  uint32_t mask = 0;
  uint32_t arrived = 0;
  void* arguments[kWarpSize];
};

struct Warp {
  uint32_t lanes;    // that have not left the kernel
  RandomOrder runs;  // lanes that can run
  Meeting meeting;
};

// The place in the source where the threads of a block wait for each other.
struct Barrier {
  const char* file;
  int line;
  int arrived;
};

// There is one block at a time, so that the state of all of this is in one place.
std::mutex one_launch;
const Launch* launch_running = nullptr;
std::vector<std::unique_ptr<Thread>> threads;  // as many as the largest block so far has had
Warp warps[kMaxWarps];
RandomOrder warp_order;  // warps that have yet to run before the next barrier
int current_warp;
int num_threads, num_left;  // that have left the kernel
Barrier barrier;
unsigned char* shared = nullptr;
Thread* current = nullptr;  // NULL: none, the launch is
Fiber launching;
Random random_numbers(seed());

int num_warps() { return (num_threads + kWarpSize - 1) / kWarpSize; }

uint32_t lanes_of(int warp) {
  const int count = num_threads - warp * kWarpSize;
  return count >= kWarpSize ? kAllLanes : (1u << count) - 1;
}

void let_all_run() {
  for (int warp = 0; warp < num_warps(); ++warp) {
    warps[warp].runs.add(warps[warp].lanes, random_numbers);
  }
  warp_order.add(num_warps() == kMaxWarps ? ~0u : (1u << num_warps()) - 1, random_numbers);
  current_warp = warp_order.take();
}

void check_nobody_waits_in(const Warp& warp) {
  const Meeting& meeting = warp.meeting;
  if (!meeting.arrived) return;
  fail(
      "warp %d: lanes %08x wait in %s for lanes %08x, which are at a barrier of the block, or have "
      "left",
      static_cast<int>(&warp - warps), meeting.arrived, meeting.operation->name,
      meeting.mask & ~meeting.arrived);
}

// All threads wait at the barrier, or have left.
void open_barrier() {
  if (num_left > 0) {
    fail("%d threads wait in __syncthreads() at %s:%d, but %d have left the kernel",
         barrier.arrived, barrier.file, barrier.line, num_left);
  }
  barrier.arrived = 0;
  let_all_run();
}

// NULL: the block is done.
Thread* next_thread() {
  while (warps[current_warp].runs.empty()) {
    check_nobody_waits_in(warps[current_warp]);
    if (!warp_order.empty()) {
      current_warp = warp_order.take();
    } else if (barrier.arrived > 0) {
      open_barrier();
    } else {
      return nullptr;
    }
  }
  return threads[current_warp * kWarpSize + warps[current_warp].runs.take()].get();
}

// Lets others run; returns when this thread is to.
void suspend() {
  Thread* const from = current;
  Thread* const to = next_thread();
  if (to == from) return;
  current = to;
  if (to) threadIdx = to->index;
  Fiber::switch_to(from->fiber, to ? to->fiber : launching);
}

void run_if_complete(Warp& warp) {
  Meeting& meeting = warp.meeting;
  if (!meeting.arrived || meeting.arrived != (meeting.mask & warp.lanes)) return;
  if (meeting.operation->needs_all_lanes && meeting.arrived != kAllLanes) {
    fail("%s needs all 32 lanes; there are lanes %08x", meeting.operation->name, meeting.arrived);
  }
  meeting.operation->run(meeting.arguments, meeting.arrived);
  warp.runs.add(meeting.arrived, random_numbers);
  meeting.arrived = 0;
}

void leave() {
  ++num_left;
  Warp& warp = warps[current->warp];
  warp.lanes &= ~(1u << current->lane);
  run_if_complete(warp);
}

void thread_main() {
  Fiber::begin();
  while (true) {  // once for every block
    launch_running->run_thread(launch_running->kernel_call);
    leave();
    suspend();
  }
}

void prepare_threads(const dim3& block) {
  num_threads = static_cast<int>(block.x * block.y * block.z);
  while (static_cast<int>(threads.size()) < num_threads) {
    threads.push_back(std::make_unique<Thread>());
    threads.back()->fiber.create(thread_main);
  }
  for (int i = 0; i < num_threads; ++i) {
    const unsigned int rank = static_cast<unsigned int>(i);
    Thread& thread = *threads[i];
    thread.index = {rank % block.x, rank / block.x % block.y, rank / (block.x * block.y)};
    thread.warp = i / kWarpSize;
    thread.lane = i % kWarpSize;
  }
}

void run_block() {
  num_left = 0;
  barrier = {};
  for (int i = 0; i < num_threads; ++i) threads[i]->copies.clear();
  for (int warp = 0; warp < num_warps(); ++warp) {
    warps[warp].lanes = lanes_of(warp);
    warps[warp].meeting.arrived = 0;
  }
  // Exactly as much as asked for, so that AddressSanitizer sees what goes beyond.
  void* memory = nullptr;
  if (posix_memalign(&memory, kSharedAlignment, launch_running->shared_bytes) != 0) {
    fail("no memory for %zu bytes of shared memory", launch_running->shared_bytes);
  }
  memset(memory, kNanBytes, launch_running->shared_bytes);
  shared = static_cast<unsigned char*>(memory);

  let_all_run();
  current = next_thread();
  threadIdx = current->index;
  Fiber::switch_to(launching, current->fiber);

  shared = nullptr;
  free(memory);
}

// From any block on, up or down: the hardware promises no order either.
void run_grid(const dim3& grid) {
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  const uint64_t first = random_numbers.next() % count;
  const bool down = random_numbers.next() & 1;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t block = (first + (down ? count - i : i)) % count;
    blockIdx = {static_cast<unsigned int>(block % grid.x),
                static_cast<unsigned int>(block / grid.x % grid.y),
                static_cast<unsigned int>(block / grid.x / grid.y)};
    run_block();
  }
}

}  // namespace

cudaError_t run(const Launch& launch) {
  const cudaError_t error =
      check_launch(launch.kernel, launch.grid, launch.block, launch.shared_bytes);
  if (error != cudaSuccess) return error;
  const std::lock_guard<std::mutex> lock(one_launch);
  launch_running = &launch;
  gridDim = launch.grid;
  blockDim = launch.block;
  prepare_threads(launch.block);
  run_grid(launch.grid);
  launch_running = nullptr;
  return cudaSuccess;
}

void meet(const WarpOperation& operation, uint32_t mask, void* argument) {
  Warp& warp = warps[current->warp];
  Meeting& meeting = warp.meeting;
  const uint32_t lane = 1u << current->lane;
  if (!(mask & lane)) fail("%s with a mask %08x that its own lane is not in", operation.name, mask);
  if (meeting.arrived && (meeting.operation->run != operation.run || meeting.mask != mask)) {
    fail("warp %d: %s (mask %08x) while lanes %08x wait in %s (mask %08x)", current->warp,
         operation.name, mask, meeting.arrived, meeting.operation->name, meeting.mask);
  }
  meeting.operation = &operation;
  meeting.mask = mask;
  meeting.arrived |= lane;
  meeting.arguments[current->lane] = argument;
  run_if_complete(warp);
  suspend();
}

void check_shared(const char* operation, const void* address, size_t bytes, size_t alignment) {
  const ptrdiff_t offset = static_cast<const unsigned char*>(address) - shared;
  const ptrdiff_t end = static_cast<ptrdiff_t>(launch_running->shared_bytes);
  if (offset < 0 || offset + static_cast<ptrdiff_t>(bytes) > end) {
    fail("%s of %zu bytes at offset %td of %td bytes of shared memory", operation, bytes, offset,
         end);
  }
  check_alignment(operation, address, alignment);
}

void check_alignment(const char* operation, const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    fail("%s at %p, which is not aligned to %zu bytes", operation, address, bytes);
  }
}

AsyncCopies& async_copies() { return current->copies; }

int current_lane() { return current->lane; }

void fail(const char* format, ...) {
  fputs("splitop emulation: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (launch_running) {
    fprintf(stderr,
            "\n  in %s\n  grid (%u, %u, %u), block (%u, %u, %u) of (%u, %u, %u) threads, thread "
            "(%u, %u, %u)\n",
            launch_running->description, gridDim.x, gridDim.y, gridDim.z, blockIdx.x, blockIdx.y,
            blockIdx.z, blockDim.x, blockDim.y, blockDim.z, threadIdx.x, threadIdx.y, threadIdx.z);
  }
  abort();
}

}  // namespace splitop::emulation

namespace splitop {

unsigned char* shared_memory() { return emulation::shared; }

}  // namespace splitop

void __syncthreads(const char* file, int line) {
  using namespace splitop::emulation;
  if (barrier.arrived == 0) {
    barrier.file = file;
    barrier.line = line;
  } else if (barrier.line != line || strcmp(barrier.file, file) != 0) {
    fail("__syncthreads() at %s:%d, while other threads wait in the one at %s:%d", file, line,
         barrier.file, barrier.line);
  }
  ++barrier.arrived;
  suspend();
}
