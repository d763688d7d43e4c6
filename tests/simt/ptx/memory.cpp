// Loads, stores, atomics and asynchronous copies. Shared memory lies below 2 GiB, so that its
// addresses fit the 32 bits that PTX has for them, and are the generic ones too.

#include "memory.hpp"

#include <algorithm>

#include "async_copy.hpp"
#include "atomics.hpp"
#include "fences.hpp"
#include "instruction.hpp"
#include "machine.hpp"

namespace simt::ptx {

Parameters parameters;

namespace {

/// Of the operand [base+offset].
std::uintptr_t address(const Frame& frame, const Instruction& i, int operand) {
  return frame.slots[i.slots[operand]] + frame.slots[i.slots[operand + 1]];
}

/// Parameters are everybody's own, and cost no traffic.
void check(std::uintptr_t at, std::size_t bytes, bool is_write, const Instruction& i) {
  if (!is_write && parameters.contain(at)) return;
  on_access(reinterpret_cast<const void*>(at), bytes, is_write, &i);
}

template <class T, int kElements>
void load(Frame& frame, const Instruction& i) {
  const std::uintptr_t at = address(frame, i, kElements);
  check(at, kElements * sizeof(T), false, i);
  const auto* from = reinterpret_cast<const T*>(at);
  for (int n = 0; n < kElements; ++n) frame.set(i.slots[n], from[n]);
}

template <class T, int kElements>
void store(Frame& frame, const Instruction& i) {
  const std::uintptr_t at = address(frame, i, 0);
  check(at, kElements * sizeof(T), true, i);
  auto* to = reinterpret_cast<T*>(at);
  for (int n = 0; n < kElements; ++n) to[n] = frame.get<T>(i.slots[2 + n]);
}

/// Not checked for races: it meets only atomics.
template <class T>
void load_acquire(Frame& frame, const Instruction& i) {
  const auto* from = reinterpret_cast<const T*>(address(frame, i, 1));
  require_readable(from, sizeof(T), &i);
  frame.set(i.slots[0], *from);
  observe(from);
  acquire();
}

void sleep(Frame& /*frame*/, const Instruction& i) { spin(i.where); }

enum class Order { kRelaxed, kAcquire, kRelease, kAcquireRelease };

template <class T, class F, Order kOrder>
void atomic(Frame& frame, const Instruction& i) {
  auto* at = reinterpret_cast<T*>(address(frame, i, 1));
  before_atomic(at, sizeof(T), &i);
  if (kOrder == Order::kRelease || kOrder == Order::kAcquireRelease) release();
  const T old = *at;
  *at = F{}(old, frame.get<T>(i.slots[3]), frame.get<T>(i.slots[4]));
  frame.set(i.slots[0], old);
  after_atomic(at);
  if (kOrder == Order::kAcquire || kOrder == Order::kAcquireRelease) acquire();
}

template <class T, class F>
void add_atomic(Meanings& all, const std::string& kind, const std::string& type, F /*f*/) {
  const int operands = kind == "cas" ? 5 : 4;
  for (const char* space : {".global.", ".shared.", "."}) {
    const std::string ordered = "atom." + kind + ".";
    const Meaning relaxed = {atomic<T, F, Order::kRelaxed>, operands};
    all["atom" + (space + kind) + "." + type] = relaxed;
    all[ordered + "relaxed" + space + type] = relaxed;
    all[ordered + "acquire" + space + type] = {atomic<T, F, Order::kAcquire>, operands};
    all[ordered + "release" + space + type] = {atomic<T, F, Order::kRelease>, operands};
    all[ordered + "acq_rel" + space + type] = {atomic<T, F, Order::kAcquireRelease>, operands};
  }
}

/// From the old value, the operand, and what is stored if these are equal.
template <class T>
void add_atomics(Meanings& all, const std::string& number, const std::string& bits) {
  add_atomic<T>(all, "add", number, [](T old, T value, T) -> T { return old + value; });
  add_atomic<T>(all, "min", number, [](T old, T value, T) { return std::min(old, value); });
  add_atomic<T>(all, "max", number, [](T old, T value, T) { return std::max(old, value); });
  add_atomic<T>(all, "or", bits, [](T old, T value, T) -> T { return old | value; });
  add_atomic<T>(all, "exch", bits, [](T, T value, T) { return value; });
  add_atomic<T>(all, "cas", bits, [](T old, T a, T b) { return old == a ? b : old; });
}

void copy_async(Frame& frame, const Instruction& i) {
  auto* to = reinterpret_cast<void*>(address(frame, i, 0));
  const auto* from = reinterpret_cast<const void*>(address(frame, i, 2));
  start_copy(to, from, frame.get<int>(i.slots[5]), &i);
}

void commit(Frame& /*frame*/, const Instruction& /*i*/) { commit_copies(); }

void wait(Frame& frame, const Instruction& i) { wait_copies(frame.get<int>(i.slots[0])); }

void full_fence(Frame& /*frame*/, const Instruction& /*i*/) { fence(); }

template <class T>
void add_accesses(Meanings& all, const std::string& type) {
  for (const char* space : {"", ".global", ".shared", ".param"}) {
    const std::string ld = std::string("ld") + space;
    const std::string st = std::string("st") + space;
    all[ld + "." + type] = {load<T, 1>, 3};
    all[ld + ".v2." + type] = {load<T, 2>, 4};
    all[st + "." + type] = {store<T, 1>, 3};
    all[st + ".v2." + type] = {store<T, 2>, 4};
    if constexpr (sizeof(T) <= 4) {
      all[ld + ".v4." + type] = {load<T, 4>, 6};
      all[st + ".v4." + type] = {store<T, 4>, 6};
    }
  }
}

}  // namespace

void add_memory(Meanings& all) {
  for (const char* type : {"b8", "u8"}) add_accesses<std::uint8_t>(all, type);
  for (const char* type : {"b16", "u16"}) add_accesses<std::uint16_t>(all, type);
  for (const char* type : {"b32", "u32", "f32"}) add_accesses<std::uint32_t>(all, type);
  for (const char* type : {"b64", "u64", "f64"}) add_accesses<std::uint64_t>(all, type);
  add_accesses<std::int8_t>(all, "s8");
  add_accesses<std::int16_t>(all, "s16");
  add_accesses<std::int32_t>(all, "s32");
  add_accesses<std::int64_t>(all, "s64");
  all["ld.acquire.global.u32"] = all["ld.acquire.global.b32"] = {load_acquire<std::uint32_t>, 3};
  all["nanosleep.u32"] = {sleep, 1};
  add_atomics<std::uint32_t>(all, "u32", "b32");
  add_atomics<std::uint64_t>(all, "u64", "b64");
  all["cp.async.cg.shared.global"] = {copy_async, 6};
  all["cp.async.commit_group"] = {commit, 0};
  all["cp.async.wait_group"] = {wait, 1};
  for (const char* name : {"fence.acq_rel", "fence.sc", "membar.gl"}) all[name] = {full_fence, 0};
}

}  // namespace simt::ptx
