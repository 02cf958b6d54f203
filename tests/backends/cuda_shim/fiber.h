// Fibers: stacks of their own for the threads of a block, and the switch from one to another, which the sanitizers are
// told of. On x86-64 a switch is a dozen instructions; swapcontext elsewhere asks the system twice each time.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SHIM_PLAIN __attribute__((no_sanitize("address")))
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define SHIM_PLAIN __attribute__((no_sanitize("thread")))
#else
#define SHIM_PLAIN
#endif

namespace shim {

[[noreturn]] inline void fail(const char* what, const char* detail = "") {
  std::fprintf(stderr, "CUDA shim: %s%s\n", what, detail);
  std::fflush(stderr);
  std::abort();
}

constexpr size_t stack_bytes = 256 << 10;

// Stacks are used again, newest first; below each lies a page that must not be touched.
class Stacks {
 public:
  char* take() {
    if (!free_.empty()) {
      char* stack = free_.back();
      free_.pop_back();
#if defined(__SANITIZE_ADDRESS__)
      __asan_unpoison_memory_region(stack, stack_bytes);  // the last frame on it never returned
#endif
      return stack;
    }
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory =
        mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the stack of another thread");
    mprotect(memory, page, PROT_NONE);
    return static_cast<char*>(memory) + page;
  }
  void give(char* stack) { free_.push_back(stack); }

 private:
  std::vector<char*> free_;
};

inline Stacks stacks;

struct Fiber {
  char* stack = nullptr;  // null: the stack that the process came with
#if defined(__x86_64__)
  void* sp = nullptr;
#else
  ucontext_t context{};
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
#elif defined(__SANITIZE_THREAD__)
  void* tsan = nullptr;
#endif
};

inline Fiber* running = nullptr;    // the fiber we are on, once `arrived`
inline Fiber* came_from = nullptr;  // and the one before

#if defined(__x86_64__)
// Leaves what a function must keep on this stack, goes on with the other.
__attribute__((naked, noinline)) SHIM_PLAIN inline void switch_stack(void** /*from*/, void* /*to*/) {
  asm(R"(
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
}
#endif

// To be called first on the fiber that was switched to.
SHIM_PLAIN inline void arrived() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(running->fake_stack, &bottom, &bytes);
  if (!came_from->stack) came_from->bottom = bottom, came_from->bytes = bytes;
#endif
}

// With `last`, `from` is never returned to.
SHIM_PLAIN inline void switch_fiber(Fiber& from, Fiber& to, bool last = false) {
  came_from = &from;
  running = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.bytes);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  (void)last;
#if defined(__x86_64__)
  switch_stack(&from.sp, to.sp);
#else
  swapcontext(&from.context, &to.context);
#endif
  arrived();
}

// Makes `entry` run on the fiber when it is first switched to. It must never return.
inline void prepare(Fiber& fiber, void (*entry)()) {
  fiber.stack = stacks.take();
#if defined(__SANITIZE_ADDRESS__)
  fiber.bottom = fiber.stack;
  fiber.bytes = stack_bytes;
  fiber.fake_stack = nullptr;
#elif defined(__SANITIZE_THREAD__)
  fiber.tsan = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes) - 2;  // as if called: 8 past a multiple of 16
  *top = reinterpret_cast<void*>(entry);
  fiber.sp = top - 6;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#endif
}

inline void release(Fiber& fiber) {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(fiber.tsan);
#endif
  stacks.give(fiber.stack);
  fiber.stack = nullptr;
}

// What one thread did before `leave_mark` on a thing, another has before it after `see_mark`: only ThreadSanitizer
// cares, which then reports every other pair of accesses as a race.
inline void leave_mark(void* on) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(on);
#endif
  (void)on;
}
inline void see_mark(void* on) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(on);
#endif
  (void)on;
}

}  // namespace shim
