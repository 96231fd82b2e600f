// Sharing tasks out among the workers of an executor.
#ifndef SPLITOP_KERNELS_CPU_PARALLEL_H_
#define SPLITOP_KERNELS_CPU_PARALLEL_H_

#include <stdint.h>

#include <algorithm>
#include <atomic>

#include "splitop/executor.h"

namespace splitop {

// A worker is woken only for this much arithmetic; waking one costs a few microseconds.
constexpr double kFlopsPerWorker = 1e6;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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
