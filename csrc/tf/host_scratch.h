// Memory for the scratch of kernels on CPUs, kept from one execution to the next.
//
// What malloc is given back above some size it gives to the system, which clears each page for the
// next one that asks: a tenth of a step whose scratch takes 46 MB.
#ifndef SPLITOP_TF_HOST_SCRATCH_H_
#define SPLITOP_TF_HOST_SCRATCH_H_

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include "tensorflow/core/framework/allocator.h"

namespace splitop {

class HostScratch final : public tensorflow::Allocator {
 public:
  // What is kept of memory that nobody uses.
  static constexpr size_t kMaxIdleBytes = size_t{512} << 20;

  // The one of this library, which outlives all tensors.
  static HostScratch* Get() {
    static auto* const allocator = new HostScratch;
    return allocator;
  }

  std::string Name() override { return "splitop_scratch"; }

  void* AllocateRaw(size_t alignment, size_t num_bytes) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    // Ops that run one after the other share the block of the largest one.
    auto fit = idle_.end();
    for (auto block = idle_.begin(); block != idle_.end(); ++block) {
      const bool fits = block->alignment == alignment && block->bytes >= num_bytes;
      if (fits && (fit == idle_.end() || block->bytes < fit->bytes)) fit = block;
    }
    Block block{nullptr, alignment, num_bytes};
    if (fit != idle_.end()) {
      block = *fit;
      idle_bytes_ -= block.bytes;
      idle_.erase(fit);
    } else {
      // In the place of one that was too small.
      if (!idle_.empty()) FreeIdle(idle_.end() - 1);
      block.data = tensorflow::cpu_allocator()->AllocateRaw(alignment, num_bytes);
      if (block.data == nullptr) return nullptr;
    }
    used_.push_back(block);
    return block.data;
  }

  void DeallocateRaw(void* data) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto block = std::find_if(used_.begin(), used_.end(),
                                    [data](const Block& each) { return each.data == data; });
    idle_.push_back(*block);
    idle_bytes_ += block->bytes;
    used_.erase(block);
    while (idle_bytes_ > kMaxIdleBytes) FreeIdle(idle_.begin());
  }

 private:
  struct Block {
    void* data;
    size_t alignment;
    size_t bytes;
  };
  using Blocks = std::vector<Block>;

  // As what is kept here is never given back, malloc would not learn from it what else it should
  // keep: glibc gives blocks to the system from the size on of the largest one it has had back, up
  // to 32 MB, and would have TensorFlow's own tensors cleared at every step.
  HostScratch() {
    constexpr size_t kMostThatMallocKeeps = (size_t{32} << 20) - (size_t{64} << 10);
    auto* const malloc = tensorflow::cpu_allocator();
    malloc->DeallocateRaw(
        malloc->AllocateRaw(Allocator::kAllocatorAlignment, kMostThatMallocKeeps));
  }

  void FreeIdle(Blocks::iterator block) {
    idle_bytes_ -= block->bytes;
    tensorflow::cpu_allocator()->DeallocateRaw(block->data);
    idle_.erase(block);
  }

  std::mutex mutex_;
  Blocks idle_;  // the last used one last
  Blocks used_;
  size_t idle_bytes_ = 0;
};

}  // namespace splitop

#endif  // SPLITOP_TF_HOST_SCRATCH_H_
