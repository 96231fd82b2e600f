// Who runs the parallel parts of a CPU kernel: the caller lends its threads.
#ifndef SPLITOP_EXECUTOR_H_
#define SPLITOP_EXECUTOR_H_

#include <stdint.h>

typedef struct splitop_executor {
  // [in] How many bodies may run at the same time, at least 1. Scratch grows with it; the
  // results do not depend on it.
  int32_t num_workers;
  // [in] Calls body(body_context, worker) once for each worker in [0, num_workers), in any
  // order and on any threads, and returns when all have returned. May be NULL if
  // num_workers is 1.
  void (*run)(void* context, int32_t num_workers, void (*body)(void* body_context, int32_t worker),
              void* body_context);
  void* context;  // [in] handed to run
} splitop_executor;

#endif  // SPLITOP_EXECUTOR_H_
