// Sharing tasks out among the workers of an executor.
#ifndef SPLITOP_KERNELS_CPU_PARALLEL_H_
#define SPLITOP_KERNELS_CPU_PARALLEL_H_

#include <stdint.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "splitop/executor.h"

namespace splitop {

// A worker more takes part for this much arithmetic. The first to be woken costs some four times as
// much, but stays awake for the regions that follow.
constexpr double kFlopsPerWorker = 1e6;

// What updating an element costs, most of it moving data, in arithmetic.
constexpr double kFlopsPerElement = 20;

// An access to a row of a table, which no cache holds, the same way.
constexpr double kFlopsPerRow = 500;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

inline bool valid(const splitop_executor* executor) {
  return executor != nullptr && executor->num_workers >= 1 &&
         (executor->run != nullptr || executor->num_workers == 1);
}

// The parts of several things, counted through.
class Parts {
 public:
  void add(int64_t parts) { ends_.push_back(total() + parts); }

  int64_t total() const { return ends_.empty() ? 0 : ends_.back(); }

  // Which thing a part is of, and which of its parts it is.
  std::pair<size_t, int64_t> at(int64_t part) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), part);
    return {end - ends_.begin(), part - (end == ends_.begin() ? 0 : *(end - 1))};
  }

 private:
  std::vector<int64_t> ends_;
};

// The processor that the caller runs on, or, where that is not known, a number of its own.
inline int32_t processor_of(int32_t worker) {
#if defined(__linux__)
  const int processor = sched_getcpu();
  if (processor >= 0) return processor;
#endif
  return worker;
}

// Tasks in as many shares as there are workers. A worker takes the share of its processor, if no
// other worker has it, and helps with the others when it is done (affinity scheduling: Markatos and
// LeBlanc, 1994). So, mostly, a processor finds in its caches what it has written there in the
// parallel region before, for the same rows or columns. What another one has written comes as
// slowly as from memory where the two have no cache in common.
class Shares {
 public:
  Shares(int64_t tasks, int32_t workers) : count_(std::min(workers, kMost)) {
    for (int32_t share = 0; share < count_; ++share) {
      shares_[share].next.store(tasks * share / count_, std::memory_order_relaxed);
      shares_[share].end = tasks * (share + 1) / count_;
    }
  }

  // Calls body(task) until no task is left. The executor's start and end of the region order what
  // is read and written.
  template <typename Body>
  void work(int32_t worker, const Body& body) {
    const int32_t own = take_share(processor_of(worker) % count_);
    for (int32_t i = 0; i < count_; ++i) {
      Share& share = shares_[(own + i) % count_];
      // A look costs less than to count on, and most shares are done when a worker is.
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
        if (task < share.end) body(task);
      }
    }
  }

 private:
  static constexpr int32_t kMost = 64;

  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
    std::atomic<bool> is_taken{false};
  };

  // The first one from `wanted` on that no worker has; `wanted`, if all are taken.
  int32_t take_share(int32_t wanted) {
    for (int32_t i = 0; i < count_; ++i) {
      const int32_t share = (wanted + i) % count_;
      if (!shares_[share].is_taken.exchange(true, std::memory_order_relaxed)) return share;
    }
    return wanted;
  }

  const int32_t count_;
  Share shares_[kMost];
};

// Runs task(index, worker) for every index in [0, tasks), shared out among the workers as
// they become free. Every result belongs to one task, so the sharing does not show in it.
template <typename Task>
void parallel_tasks(const splitop_executor& executor, int32_t num_workers, int64_t tasks,
                    double flops, const Task& task) {
  const double wanted = std::min(static_cast<double>(tasks), flops / kFlopsPerWorker);
  const auto workers = static_cast<int32_t>(std::max(1.0, std::min<double>(num_workers, wanted)));
  if (workers == 1) {
    for (int64_t i = 0; i < tasks; ++i) task(i, 0);
    return;
  }
  struct Shared {
    const Task& task;
    Shares shares;
  } shared{task, Shares(tasks, workers)};
  const auto body = [](void* context, int32_t worker) {
    Shared& s = *static_cast<Shared*>(context);
    s.shares.work(worker, [&](int64_t index) { s.task(index, worker); });
  };
  executor.run(executor.context, workers, body, &shared);
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_PARALLEL_H_
