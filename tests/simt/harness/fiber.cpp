#include "fiber.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>

#if !defined(__x86_64__)
#error "the context switch below is for x86-64 only"
#endif

// Pushes the registers that a call must preserve, stores the stack pointer through `save`, and
// continues on the stack `load`, where the same was done before.
extern "C" void simt_switch_stack(void** save, void* load);
asm(R"(
.text
.hidden simt_switch_stack
.globl simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
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
.size simt_switch_stack, . - simt_switch_stack
)");

namespace simt {
namespace {

constexpr std::size_t kGuardBytes = 4096;  // an overflowing stack faults
constexpr std::size_t kSavedRegisters = 6;

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) throw std::bad_alloc();
  stack_ = static_cast<char*>(memory) + kGuardBytes;
}

Fiber::~Fiber() { munmap(stack_ - kGuardBytes, kGuardBytes + kStackBytes); }

void Fiber::restart(Entry entry) {
  // As a call would leave it: entry finds its (absent) return address at 8 modulo 16.
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes) - 1;
  *top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  top -= kSavedRegisters;
  std::memset(top, 0, kSavedRegisters * sizeof(void*));
  stack_pointer_ = top;
}

void Fiber::resume() { simt_switch_stack(&scheduler_stack_pointer_, stack_pointer_); }

void Fiber::pause() { simt_switch_stack(&stack_pointer_, scheduler_stack_pointer_); }

}  // namespace simt
