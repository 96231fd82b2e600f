#include <unistd.h>

#include <atomic>

#include "splitop/cpu.h"

namespace {

int32_t of_machine() {
  long ways = 0;
#ifdef _SC_LEVEL1_DCACHE_ASSOC
  ways = sysconf(_SC_LEVEL1_DCACHE_ASSOC);
#endif
  return ways > 0 ? static_cast<int32_t>(ways) : 8;
}

std::atomic<int32_t>& in_use() {
  static std::atomic<int32_t> ways{of_machine()};
  return ways;
}

}  // namespace

int32_t splitop_cpu_cache_ways(void) { return in_use().load(std::memory_order_relaxed); }

void splitop_cpu_set_cache_ways(int32_t ways) { in_use().store(ways, std::memory_order_relaxed); }
