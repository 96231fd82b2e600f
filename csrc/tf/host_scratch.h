// Memory for the scratch of kernels on CPUs, kept from one execution to the next.
//
// What malloc is given back above some size it gives to the system, which clears each page for the
// next one that asks: a tenth of a step whose scratch takes 46 MB.
//
// As what is kept here is not given back, malloc would not learn from it what else it should keep:
// glibc gives blocks to the system from the size on of the largest one it has had back, up to 32
// MB, and would have TensorFlow's own tensors cleared at every step. So it is shown one such block.
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
    Block block = TakeIdle(alignment, num_bytes);
    if (block.data == nullptr) block = {Allocate(alignment, num_bytes), alignment, num_bytes};
    if (block.data == nullptr) {
      FreeIdle();
      block.data = Allocate(alignment, num_bytes);
      if (block.data == nullptr) return nullptr;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    used_.push_back(block);
    idle_.reserve(idle_.size() + used_.size());  // giving back must not fail
    return block.data;
  }

  void DeallocateRaw(void* data) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto block = std::find_if(used_.begin(), used_.end(),
                                      [data](const Block& each) { return each.data == data; });
      const Block given = *block;
      used_.erase(block);
      if (idle_bytes_ + given.bytes <= kMaxIdleBytes) {
        idle_.push_back(given);
        idle_bytes_ += given.bytes;
        return;
      }
    }
    tensorflow::cpu_allocator()->DeallocateRaw(data);
  }

 private:
  struct Block {
    void* data;
    size_t alignment;
    size_t bytes;
  };

  HostScratch() {
    constexpr size_t kMostThatMallocKeeps = (size_t{32} << 20) - (size_t{64} << 10);
    auto* const malloc = tensorflow::cpu_allocator();
    malloc->DeallocateRaw(
        malloc->AllocateRaw(Allocator::kAllocatorAlignment, kMostThatMallocKeeps));
  }

  static void* Allocate(size_t alignment, size_t bytes) {
    return tensorflow::cpu_allocator()->AllocateRaw(alignment, bytes);
  }

  // The smallest idle block that is large enough: ops that run one after the other share that of
  // the largest one. If all are too small, one is freed, in whose place the caller gets another.
  Block TakeIdle(size_t alignment, size_t bytes) {
    Block taken{nullptr, alignment, bytes};
    void* too_small = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto fit = idle_.end();
      for (auto block = idle_.begin(); block != idle_.end(); ++block) {
        const bool fits = block->alignment == alignment && block->bytes >= bytes;
        if (fits && (fit == idle_.end() || block->bytes < fit->bytes)) fit = block;
      }
      if (fit != idle_.end()) {
        taken = *fit;
      } else if (!idle_.empty()) {
        fit = idle_.end() - 1;
        too_small = fit->data;
      } else {
        return taken;
      }
      idle_bytes_ -= fit->bytes;
      idle_.erase(fit);
    }
    if (too_small != nullptr) tensorflow::cpu_allocator()->DeallocateRaw(too_small);
    return taken;
  }

  void FreeIdle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Block& block : idle_) tensorflow::cpu_allocator()->DeallocateRaw(block.data);
    idle_.clear();
    idle_bytes_ = 0;
  }

  std::mutex mutex_;
  std::vector<Block> idle_;  // the last used one last
  std::vector<Block> used_;
  size_t idle_bytes_ = 0;
};

}  // namespace splitop

#endif  // SPLITOP_TF_HOST_SCRATCH_H_
