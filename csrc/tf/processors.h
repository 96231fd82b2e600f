// Keeps the threads of a team apart: no two of them on one processor while another is free.
//
// A thread that is woken while all processors are busy, be it for microseconds, may be queued
// behind the one that has woken it, and Linux takes milliseconds to move it: longer than most
// parallel regions last.
#ifndef SPLITOP_TF_PROCESSORS_H_
#define SPLITOP_TF_PROCESSORS_H_

#include <atomic>
#include <cstdint>
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

 private:
  static constexpr int kNone = -1;

#if defined(__linux__)
  static constexpr int kMost = CPU_SETSIZE;

  int Take() {
    int processor = sched_getcpu();
    if (processor < 0 || processor >= kMost) return kNone;
    if (TakeIfFree(processor)) return processor;
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
