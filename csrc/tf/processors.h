// Keeps the threads of a team apart: no two of them on one processor while another is free.
//
// A thread that is woken while all processors are busy, be it for microseconds, may be queued
// behind its caller, the thread that has woken it. There Linux leaves it for milliseconds, longer
// than most parallel regions last. So it moves as soon as it runs; and where that has happened
// lately, the caller pauses, so that it runs at once.
#ifndef SPLITOP_TF_PROCESSORS_H_
#define SPLITOP_TF_PROCESSORS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#if defined(__linux__)
#include <sched.h>
#endif

namespace splitop {

// What this process's callers know of each other.
class Callers {
 public:
  // While it lives, its thread has others work for it.
  class Scope {
   public:
    Scope() { callers_.fetch_add(1, std::memory_order_relaxed); }
    ~Scope() { callers_.fetch_sub(1, std::memory_order_relaxed); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

  // A thread was queued behind its caller, and has moved.
  static void NoteMove() {
    crowded_until_.store(Clock::now() + kLately, std::memory_order_relaxed);
  }

  // Lets a thread come that the caller has woken: one that does not come soon may be queued behind
  // it. To yield is not enough, as the system may have the caller go on.
  static void Await(const std::atomic<bool>& has_come) {
    const auto begin = Clock::now();
    if (begin >= crowded_until_.load(std::memory_order_relaxed)) return;
    if (begin < in_vain_until_.load(std::memory_order_relaxed)) return;
    if (callers_.load(std::memory_order_relaxed) > 1) return;  // The processors have work.
    while (!has_come.load(std::memory_order_relaxed)) {
      if (Clock::now() < begin + kSoon) continue;
      std::this_thread::sleep_for(std::chrono::nanoseconds(1));
      const auto end = Clock::now();
      if (has_come.load(std::memory_order_relaxed) && end < begin + kLong) return;
      // Whatever it is that has the processors, waiting for it may cost a hundredth of the time.
      in_vain_until_.store(end + 100 * (end - begin), std::memory_order_relaxed);
      return;
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  static constexpr std::chrono::seconds kLately{1};
  static constexpr std::chrono::microseconds kSoon{20};
  static constexpr std::chrono::microseconds kLong{300};  // of which sleeping takes 60 or so

  alignas(64) static inline std::atomic<int32_t> callers_{0};
  alignas(64) static inline std::atomic<Clock::time_point> crowded_until_{};
  static inline std::atomic<Clock::time_point> in_vain_until_{};
};

// Those that the threads of a team run on.
class Processors {
 public:
  // While it lives, the calling thread has the processor that it runs on, unless another one has.
  class Seat {
   public:
    // moves: Whether the thread goes, from one that another has, to one that nobody has, of those
    // that it may use.
    Seat(Processors& all, bool moves) : all_(all), processor_(all.Take(moves)) {}
    ~Seat() { all_.Leave(processor_); }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

    int processor() const { return processor_; }  // -1: none

   private:
    Processors& all_;
    const int processor_;
  };

 private:
  static constexpr int kNone = -1;

#if defined(__linux__)
  static constexpr int kMost = CPU_SETSIZE;

  int Take(bool moves) {
    int processor = sched_getcpu();
    if (processor < 0 || processor >= kMost) return kNone;
    if (TakeIfFree(processor)) return processor;
    if (!moves || !MoveToFree()) return kNone;
    processor = sched_getcpu();
    if (!TakeIfFree(processor)) return kNone;
    Callers::NoteMove();
    return processor;
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
    if (sched_setaffinity(0, sizeof allowed, &allowed) != 0) {
      // What the process may use has changed since: the system knows what is left of all.
      std::memset(&allowed, 0xff, sizeof allowed);
      sched_setaffinity(0, sizeof allowed, &allowed);
    }
    return true;
  }

  std::atomic<uint64_t>& Word(int processor) { return taken_[processor / 64]; }
  static uint64_t Bit(int processor) { return uint64_t{1} << processor % 64; }

  alignas(64) std::atomic<uint64_t> taken_[kMost / 64] = {};
#else
  int Take(bool) { return kNone; }
  void Leave(int) {}
#endif
};

}  // namespace splitop

#endif  // SPLITOP_TF_PROCESSORS_H_
