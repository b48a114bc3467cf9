// A fiber: one thread of a block, which runs until it hands over to another.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)

// Saves what the System V ABI asks a function to keep, changes the stack, and returns on the new
// one: about two nanoseconds, where swapcontext makes a system call.
extern "C" void fercore_emulator_switch(void** save, void* resume);
asm(R"(
.text
.hidden fercore_emulator_switch
.globl fercore_emulator_switch
.type fercore_emulator_switch,@function
fercore_emulator_switch:
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
)");

namespace emulator {

class Fiber {
  public:
    // `entry` must not return. `top` is the end of the stack, a multiple of 16.
    void start(char* top, std::size_t, void (*entry)()) {
        void** slot = reinterpret_cast<void**>(top);
        *--slot = nullptr;  // where `entry` would find its return address
        *--slot = reinterpret_cast<void*>(entry);
        for (int saved = 0; saved < 6; ++saved) *--slot = nullptr;
        stack_ = slot;
    }

    static void change(Fiber& from, Fiber& to) { fercore_emulator_switch(&from.stack_, to.stack_); }

  private:
    void* stack_ = nullptr;
};

}  // namespace emulator

#else

#include <ucontext.h>

namespace emulator {

class Fiber {
  public:
    void start(char* top, std::size_t bytes, void (*entry)()) {
        getcontext(&context_);
        context_.uc_stack.ss_sp = top - bytes;
        context_.uc_stack.ss_size = bytes;
        context_.uc_link = nullptr;
        makecontext(&context_, entry, 0);
    }

    static void change(Fiber& from, Fiber& to) { swapcontext(&from.context_, &to.context_); }

  private:
    ucontext_t context_;
};

}  // namespace emulator

#endif
