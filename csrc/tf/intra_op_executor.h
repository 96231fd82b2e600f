// Lends a framework's intra-op threads to a kernel, as a splitop_executor.
#ifndef SPLITOP_TF_INTRA_OP_EXECUTOR_H_
#define SPLITOP_TF_INTRA_OP_EXECUTOR_H_

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "splitop/executor.h"
#include "tensorflow/core/platform/denormal.h"
#include "tensorflow/core/platform/setround.h"
#include "tf/processors.h"

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

// The threads that work on the parallel regions of one execution of an op: the caller, and helpers
// that stay awake from region to region, as waking one takes as long as a small layer.
class Team {
 public:
  using Body = void (*)(void* body_context, int32_t worker);

  // Starts a region; the one before is over. Its workers are handed out to whoever asks first.
  void Begin(int32_t num_workers, Body body, void* body_context) {
    body_ = body;
    body_context_ = body_context;
    unfinished_.store(num_workers, std::memory_order_relaxed);
    ticket_.store(Ticket(num_workers, 0), std::memory_order_release);
  }

  // Does one worker of the region, if one is left.
  bool Work() {
    uint64_t ticket = ticket_.load(std::memory_order_relaxed);
    while (Next(ticket) < NumWorkers(ticket)) {
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acquire)) continue;
      // The region can't end before this worker has.
      body_(body_context_, Next(ticket));
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) NotifyFinished();
      return true;
    }
    return false;
  }

  // Mostly the others are about to finish, and a thread that sleeps is woken late.
  void Wait() {
    for (int pause = 0; pause < kPauses; ++pause) {
      if (Finished()) return;
      PauseThread();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return Finished(); });
  }

  // What a helper does until the op ends, or until it has found no work for long.
  void Help() {
    const ScopedFloatMode float_mode;
    if (std::this_thread::get_id() == caller_) {  // A pool whose queue is full has it help itself.
      WorkUntilIdle();
    } else {
      has_helper_.store(true, std::memory_order_relaxed);
      const Processors::Seat seat(processors_, /*moves=*/true);
      WorkUntilIdle();
    }
    helpers_.fetch_sub(1, std::memory_order_relaxed);
  }

  // Until one of them has come, or for an instant.
  void AwaitHelper() const { Callers::Await(has_helper_); }

  // Announces helpers, so that there are `enough`; returns how many are to come.
  int32_t AddHelpers(int32_t enough) {
    const int32_t missing = enough - helpers_.load(std::memory_order_relaxed);
    if (missing <= 0) return 0;
    helpers_.fetch_add(missing, std::memory_order_relaxed);
    return missing;
  }

  Processors& processors() { return processors_; }

  void Close() { closed_.store(true, std::memory_order_relaxed); }

 private:
  static constexpr int kPauses = 5000;  // some 0.1 ms

  static uint64_t Ticket(int32_t num_workers, int32_t next) {
    return static_cast<uint64_t>(num_workers) << 32 | static_cast<uint32_t>(next);
  }
  static int32_t NumWorkers(uint64_t ticket) { return static_cast<int32_t>(ticket >> 32); }
  static int32_t Next(uint64_t ticket) { return static_cast<int32_t>(ticket); }

  void WorkUntilIdle() {
    for (int pause = 0; pause < kPauses && !closed_.load(std::memory_order_relaxed); ++pause) {
      if (Work()) {
        pause = 0;
      } else {
        PauseThread();
      }
    }
  }

  bool Finished() const { return unfinished_.load(std::memory_order_acquire) == 0; }

  void NotifyFinished() {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_.notify_one();
  }

  const std::thread::id caller_ = std::this_thread::get_id();
  Body body_ = nullptr;
  void* body_context_ = nullptr;
  std::atomic<uint64_t> ticket_{0};  // workers of the region, and how many of them are handed out
  std::atomic<int32_t> unfinished_{0};
  std::atomic<int32_t> helpers_{0};
  std::atomic<bool> has_helper_{false};
  std::atomic<bool> closed_{false};
  Processors processors_;
  std::mutex mutex_;
  std::condition_variable finished_;
};

template <typename Pool>  // what has Schedule(function)
class IntraOpExecutor {
 public:
  IntraOpExecutor(Pool* pool, int32_t num_threads)
      : pool_(pool), executor_{num_threads, &IntraOpExecutor::Run, this} {}
  ~IntraOpExecutor() { team_->Close(); }
  IntraOpExecutor(const IntraOpExecutor&) = delete;
  IntraOpExecutor& operator=(const IntraOpExecutor&) = delete;

  const splitop_executor* get() const { return &executor_; }

 private:
  // The calling thread takes part and waits for started workers only, so a busy pool can't
  // block it. A helper that comes too late finds nothing to do; it keeps the team alive.
  static void Run(void* context, int32_t num_workers, Team::Body body, void* body_context) {
    auto* const executor = static_cast<IntraOpExecutor*>(context);
    const ScopedFloatMode float_mode;
    Team& team = *executor->team_;
    const Callers::Scope scope;
    const Processors::Seat seat(team.processors(), /*moves=*/false);
    team.Begin(num_workers, body, body_context);
    executor->CallHelpers(num_workers - 1);
    while (team.Work()) {
    }
    team.Wait();
  }

  // Variables may have been written by now: without memory for helpers the caller works alone.
  // A pool whose queue is full has the caller help, which finds the work done after that.
  void CallHelpers(int32_t enough) {
    int32_t missing = team_->AddHelpers(enough);
    if (missing <= 0) return;
    for (; missing > 0; --missing) {
      try {
        pool_->Schedule([team = team_] { team->Help(); });
      } catch (const std::bad_alloc&) {
        return;
      }
    }
    team_->AwaitHelper();
  }

  Pool* const pool_;
  const std::shared_ptr<Team> team_ = std::make_shared<Team>();
  const splitop_executor executor_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_INTRA_OP_EXECUTOR_H_
