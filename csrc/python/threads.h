// Plain threads for the CPU kernels: enough for tests. Inside TensorFlow its pool is used.
#ifndef SPLITOP_PYTHON_THREADS_H_
#define SPLITOP_PYTHON_THREADS_H_

#include <pybind11/pybind11.h>

#include <string>
#include <thread>
#include <vector>

#include "splitop/executor.h"

namespace splitop {

inline void run_on_threads(void*, int32_t num_workers, void (*body)(void*, int32_t),
                           void* body_context) {
  std::vector<std::thread> threads;
  for (int32_t worker = 1; worker < num_workers; ++worker) {
    threads.emplace_back(body, body_context, worker);
  }
  body(body_context, 0);
  for (std::thread& thread : threads) thread.join();
}

inline splitop_executor threads_executor(int num_threads) {
  if (num_threads < 1) {
    throw pybind11::value_error("num_threads must be at least 1. Received: " +
                                std::to_string(num_threads));
  }
  return {num_threads, run_on_threads, nullptr};
}

}  // namespace splitop

#endif  // SPLITOP_PYTHON_THREADS_H_
