// Calls a function of the C ABI with the scratch that it asks for.
#ifndef SPLITOP_PYTHON_SCRATCH_H_
#define SPLITOP_PYTHON_SCRATCH_H_

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "splitop/executor.h"
#include "splitop/status.h"

namespace splitop {

// kScratchBytes(call, num_workers) and kRun(call, scratch, bytes, executor) are of the C ABI.
template <auto kScratchBytes, auto kRun, typename Call>
splitop_status run_with_scratch(const Call& call, const splitop_executor& executor) {
  const pybind11::gil_scoped_release release;
  const size_t bytes = kScratchBytes(&call, executor.num_workers);
  const std::unique_ptr<void, void (*)(void*)> scratch(std::aligned_alloc(64, bytes / 64 * 64 + 64),
                                                       std::free);
  if (scratch == nullptr) throw std::bad_alloc();
  return kRun(&call, scratch.get(), bytes, &executor);
}

}  // namespace splitop

#endif  // SPLITOP_PYTHON_SCRATCH_H_
