// Stacks of their own within one OS thread, switched by hand.
#ifndef SPLITOP_EMULATION_FIBER_H_
#define SPLITOP_EMULATION_FIBER_H_

#include <stddef.h>

// ucontext saves the signal mask in a system call at every switch: ten times as slow.
#if !defined(__x86_64__) && !defined(SPLITOP_EMULATION_UCONTEXT)
#define SPLITOP_EMULATION_UCONTEXT
#endif

#ifdef SPLITOP_EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace splitop::emulation {

class Fiber {
 public:
  Fiber() = default;  // of the stack that the program is running on
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // A stack that runs `entry` when it is first resumed. `entry` must call begin() first and never
  // return. The stack is never freed: fibers are kept for the next kernel.
  void create(void (*entry)());

  static void begin();

  // Leaves `from`, which is running, for `to`; returns when `from` is resumed.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  static void switched();

#ifdef SPLITOP_EMULATION_UCONTEXT
  ucontext_t context_;
#else
  void* stack_pointer_ = nullptr;
#endif
  // For AddressSanitizer, which has to be told of every switch.
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace splitop::emulation

#endif  // SPLITOP_EMULATION_FIBER_H_
