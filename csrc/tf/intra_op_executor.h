// Lends a framework's intra-op threads to a kernel, as a splitop_executor.
#ifndef SPLITOP_TF_INTRA_OP_EXECUTOR_H_
#define SPLITOP_TF_INTRA_OP_EXECUTOR_H_

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <memory>
#include <new>

#include "absl/synchronization/notification.h"
#include "splitop/executor.h"
#include "tensorflow/core/platform/denormal.h"
#include "tensorflow/core/platform/setround.h"

namespace splitop {

// TensorFlow's pools flush denormals and round to nearest, a caller's own thread may not:
// the same on all, or the bits would depend on who does the work.
class ScopedFloatMode {
 private:
  tensorflow::port::ScopedFlushDenormal flush_;
  tensorflow::port::ScopedSetRound round_{FE_TONEAREST};
};

inline void PauseThread() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One call of run(): its workers are handed out to whichever thread asks first.
class ParallelCall {
 public:
  using Body = void (*)(void* body_context, int32_t worker);

  ParallelCall(int32_t num_workers, Body body, void* body_context)
      : num_workers_(num_workers),
        body_(body),
        body_context_(body_context),
        unfinished_(num_workers) {}

  // Does workers until none is left.
  void Work() {
    const ScopedFloatMode float_mode;
    for (;;) {
      const int32_t worker = next_.fetch_add(1, std::memory_order_relaxed);
      if (worker >= num_workers_) return;
      body_(body_context_, worker);
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) finished_.Notify();
    }
  }

  // Mostly the others are about to finish, and a thread that sleeps is woken late.
  void Wait() {
    for (int pause = 0; pause < kPauses; ++pause) {
      if (unfinished_.load(std::memory_order_acquire) == 0) return;
      PauseThread();
    }
    finished_.WaitForNotification();
  }

 private:
  static constexpr int kPauses = 5000;  // some 0.1 ms

  const int32_t num_workers_;
  const Body body_;
  void* const body_context_;
  std::atomic<int32_t> next_{0};
  std::atomic<int32_t> unfinished_;
  absl::Notification finished_;
};

template <typename Pool>  // what has Schedule(function)
class IntraOpExecutor {
 public:
  IntraOpExecutor(Pool* pool, int32_t num_threads)
      : pool_(pool), executor_{num_threads, &IntraOpExecutor::Run, this} {}
  IntraOpExecutor(const IntraOpExecutor&) = delete;
  IntraOpExecutor& operator=(const IntraOpExecutor&) = delete;

  const splitop_executor* get() const { return &executor_; }

 private:
  // The calling thread takes part and waits for started workers only, so a busy pool can't
  // block it. A helper that comes too late finds nothing to do; it keeps `call` alive.
  // Variables may have been written by now: without memory for helpers it works alone.
  static void Run(void* context, int32_t num_workers, ParallelCall::Body body, void* body_context) {
    std::shared_ptr<ParallelCall> call;
    try {
      call = std::make_shared<ParallelCall>(num_workers, body, body_context);
      for (int32_t helper = 1; helper < num_workers; ++helper) {
        static_cast<IntraOpExecutor*>(context)->pool_->Schedule([call] { call->Work(); });
      }
    } catch (const std::bad_alloc&) {
      if (call == nullptr) {
        for (int32_t worker = 0; worker < num_workers; ++worker) body(body_context, worker);
        return;
      }
    }
    call->Work();
    call->Wait();
  }

  Pool* const pool_;
  const splitop_executor executor_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_INTRA_OP_EXECUTOR_H_
