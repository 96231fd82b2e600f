// The rows of a table that ids point to, on CPUs: every worker copies those of blocks of ids.
#include "splitop/table_lookup.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/checks.h"
#include "kernels/cpu/indices.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

constexpr int64_t kTaskBytes = 1 << 17;  // of rows, about
constexpr int64_t kTaskIds = 1 << 11;    // at most
constexpr int64_t kRowsAhead = 16;       // a row comes from memory in the time of so many copies
constexpr int64_t kLine = 64;
constexpr int64_t kLinesAhead = 4;  // of a row: the hardware asks for what comes after them

template <typename Index>
void copy_rows(const splitop_table_lookup& lookup, const Index* ids, int64_t begin, int64_t end) {
  const int64_t bytes = lookup.row_bytes;
  const auto* const table = static_cast<const char*>(lookup.table);
  auto* const result = static_cast<char*>(lookup.result);
  const int64_t asked = std::min(bytes, kLine * kLinesAhead);
  for (int64_t p = begin; p < end; ++p) {
    const char* const ahead = table + ids[std::min(p + kRowsAhead, end - 1)] * bytes;
    for (int64_t b = 0; b < asked; b += kLine) __builtin_prefetch(ahead + b);
    std::memcpy(result + p * bytes, table + ids[p] * bytes, bytes);
  }
}

bool run(const splitop_table_lookup& lookup, const splitop_executor& executor) {
  const int64_t row_bytes = std::max<int64_t>(lookup.row_bytes, 1);
  const int64_t block = std::clamp<int64_t>(kTaskBytes / row_bytes, 1, kTaskIds);
  const double flops = kFlopsPerRow * static_cast<double>(lookup.num_ids) +
                       kFlopsPerElement / sizeof(float) * static_cast<double>(lookup.num_ids) *
                           static_cast<double>(lookup.row_bytes);
  std::atomic<bool> good{true};
  parallel_tasks(executor, executor.num_workers, ceil_div(lookup.num_ids, block), flops,
                 [&](int64_t task, int32_t) {
                   const int64_t begin = task * block;
                   const int64_t end = std::min(begin + block, lookup.num_ids);
                   with_indices(lookup.id_type, lookup.ids, [&](const auto* ids) {
                     if (first_out_of_range(ids, begin, end, lookup.rows) != end) {
                       good = false;
                     } else if (lookup.row_bytes > 0) {
                       copy_rows(lookup, ids, begin, end);
                     }
                   });
                 });
  return good;
}

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_table_lookup(const splitop_table_lookup* lookup,
                                        const splitop_executor* executor) {
  if (!splitop::valid(lookup) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  return splitop::run(*lookup, *executor) ? SPLITOP_OK : SPLITOP_INVALID_ARGUMENT;
}
