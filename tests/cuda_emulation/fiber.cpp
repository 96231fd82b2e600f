#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef SPLITOP_EMULATION_UCONTEXT

// Saves what the calling convention has a function preserve, and the stack pointer; loads the
// other fiber's.
extern "C" __attribute__((visibility("hidden"))) void splitop_emulation_switch(
    void** from_stack_pointer, void* to_stack_pointer);

asm(R"(
    .text
    .p2align 4
    .globl splitop_emulation_switch
    .hidden splitop_emulation_switch
    .type splitop_emulation_switch, @function
splitop_emulation_switch:
    endbr64
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size splitop_emulation_switch, . - splitop_emulation_switch
)");

#endif

namespace splitop::emulation {
namespace {

constexpr size_t kPageBytes = 4096;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 * 1024;  // its red zones make frames several times as large
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// Whom control came from at the last switch.
Fiber* previous = nullptr;

void* allocate_stack() {
  void* memory = mmap(nullptr, kPageBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  // The lowest page is a guard: a stack grows down into it.
  if (memory == MAP_FAILED || mprotect(memory, kPageBytes, PROT_NONE) != 0) {
    perror("splitop emulation: no memory for the stack of an emulated thread");
    abort();
  }
  return static_cast<char*>(memory) + kPageBytes;
}

}  // namespace

void Fiber::create(void (*entry)()) {
  void* const stack = allocate_stack();
  stack_ = stack;
  stack_bytes_ = kStackBytes;
#ifdef SPLITOP_EMULATION_UCONTEXT
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#else
  // As if entry had been called from address 0 and had then been left by the switch.
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack) + kStackBytes);
  *--top = nullptr;  // the return address
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  stack_pointer_ = top;
#endif
}

void Fiber::begin() { switched(); }

// Runs on the fiber resumed.
void Fiber::switched() {
#ifdef __SANITIZE_ADDRESS__
  // Tells where the other stack is, too: the only way to learn that of the program's own.
  __sanitizer_finish_switch_fiber(nullptr, &previous->stack_, &previous->stack_bytes_);
#endif
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  previous = &from;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
#endif
#ifdef SPLITOP_EMULATION_UCONTEXT
  swapcontext(&from.context_, &to.context_);
#else
  splitop_emulation_switch(&from.stack_pointer_, to.stack_pointer_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack_, &previous->stack_, &previous->stack_bytes_);
#endif
}

}  // namespace splitop::emulation
