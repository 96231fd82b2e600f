// Sharing tasks out among the workers of an executor.
#ifndef SPLITOP_KERNELS_CPU_PARALLEL_H_
#define SPLITOP_KERNELS_CPU_PARALLEL_H_

#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "splitop/executor.h"

namespace splitop {

// A worker is woken only for this much arithmetic; waking one costs a few microseconds.
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

// Runs task(index, worker) for every index in [0, tasks), shared out among the workers as
// they become free. Every result belongs to one task, so the sharing does not show in it.
template <typename Task>
void parallel_tasks(const splitop_executor& executor, int32_t num_workers, int64_t tasks,
                    double flops, const Task& task) {
  struct Shared {
    const Task& task;
    int64_t tasks;
    std::atomic<int64_t> next{0};
  } shared{task, tasks};
  auto body = [](void* context, int32_t worker) {
    Shared& s = *static_cast<Shared*>(context);
    for (int64_t i = s.next++; i < s.tasks; i = s.next++) s.task(i, worker);
  };
  const double wanted = std::min(static_cast<double>(tasks), flops / kFlopsPerWorker);
  const auto workers = static_cast<int32_t>(std::max(1.0, std::min<double>(num_workers, wanted)));
  if (workers == 1) {
    body(&shared, 0);
  } else {
    executor.run(executor.context, workers, body, &shared);
  }
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_PARALLEL_H_
