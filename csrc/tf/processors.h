// Keeps the threads of a team apart: no two of them on one processor while another is free.
//
// A thread that is woken while all processors are busy, be it for microseconds, may be queued
// behind the one that has woken it, where Linux leaves it for milliseconds: longer than most
// parallel regions last. So
// the one pauses for it, where that has happened lately, and it moves to another processor.
#ifndef SPLITOP_TF_PROCESSORS_H_
#define SPLITOP_TF_PROCESSORS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#if defined(__linux__)
#include <sched.h>
#endif

namespace splitop {

class Processors {
 public:
  // While it lives, the calling thread has the processor that it runs on. If another one has that,
  // the thread moves to one that nobody has, of those that it may use; if there is none, it stays.
  class Seat {
   public:
    explicit Seat(Processors& all) : all_(all), own_(all.Take()) {}
    ~Seat() { all_.Leave(own_); }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

   private:
    Processors& all_;
    const int own_;
  };

  // While it lives, its thread has others work for it.
  class Caller {
   public:
    Caller() { callers_.fetch_add(1, std::memory_order_relaxed); }
    ~Caller() { callers_.fetch_sub(1, std::memory_order_relaxed); }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;
  };

  // Lets a thread come that the caller has woken, if threads have lately been found behind others:
  // one that does not come soon may wait for the caller's processor. To yield is not enough, as the
  // system may have the caller go on.
  static void Await(const std::atomic<bool>& has_come) {
    const auto begin = Clock::now();
    if (begin >= crowded_until_.load(std::memory_order_relaxed)) return;
    if (begin < in_vain_until_.load(std::memory_order_relaxed)) return;
    if (callers_.load(std::memory_order_relaxed) > 1) return;  // The processors have work.
    while (Clock::now() < begin + kSoon) {
      if (has_come.load(std::memory_order_relaxed)) return;
    }
    std::this_thread::sleep_for(std::chrono::nanoseconds(1));
    if (has_come.load(std::memory_order_relaxed)) return;
    // Somebody else's work has the processors. What that costs may be a hundredth of the time.
    const auto end = Clock::now();
    in_vain_until_.store(end + 100 * (end - begin), std::memory_order_relaxed);
  }

 private:
  using Clock = std::chrono::steady_clock;

  static constexpr int kNone = -1;
  static constexpr std::chrono::seconds kLately{1};
  static constexpr std::chrono::microseconds kSoon{20};

  static inline std::atomic<int32_t> callers_{0};
  static inline std::atomic<Clock::time_point> crowded_until_{};
  static inline std::atomic<Clock::time_point> in_vain_until_{};

#if defined(__linux__)
  static constexpr int kMost = CPU_SETSIZE;

  int Take() {
    int processor = sched_getcpu();
    if (processor < 0 || processor >= kMost) return kNone;
    if (TakeIfFree(processor)) return processor;
    crowded_until_.store(Clock::now() + kLately, std::memory_order_relaxed);
    if (!MoveToFree()) return kNone;
    processor = sched_getcpu();
    return TakeIfFree(processor) ? processor : kNone;
  }

  void Leave(int processor) {
    if (processor != kNone) Word(processor).fetch_and(~Bit(processor), std::memory_order_relaxed);
  }

  bool TakeIfFree(int processor) {
    return !(Word(processor).fetch_or(Bit(processor), std::memory_order_relaxed) & Bit(processor));
  }

  // The system moves a thread at once that may no longer be where it is. After that it may go
  // wherever it could before.
  bool MoveToFree() {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
    cpu_set_t free = allowed;
    for (int each = 0; each < kMost; ++each) {
      if (Word(each).load(std::memory_order_relaxed) & Bit(each)) CPU_CLR(each, &free);
    }
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return false;
    sched_setaffinity(0, sizeof allowed, &allowed);
    return true;
  }

  std::atomic<uint64_t>& Word(int processor) { return taken_[processor / 64]; }
  static uint64_t Bit(int processor) { return uint64_t{1} << processor % 64; }

  std::atomic<uint64_t> taken_[kMost / 64] = {};
#else
  int Take() { return kNone; }
  void Leave(int) {}
#endif
};

}  // namespace splitop

#endif  // SPLITOP_TF_PROCESSORS_H_
