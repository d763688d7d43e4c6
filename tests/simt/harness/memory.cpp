#include "memory.hpp"

#include <map>
#include <string>
#include <utility>

#include "image.hpp"
#include "machine.hpp"

namespace simt {
namespace {

struct Buffer {
  std::uintptr_t begin;
  std::size_t bytes;
  std::string name;
  bool writable;
  Shadow shadow;
};

std::map<std::uintptr_t, Buffer> buffers;  // by their first address
bool counting = false;
Traffic traffic;

Buffer* last_buffer_from(std::uintptr_t address) {
  const auto after = buffers.upper_bound(address);
  return after == buffers.begin() ? nullptr : &std::prev(after)->second;
}

std::string describe(std::size_t bytes, bool is_write) {
  return (is_write ? "write of " : "read of ") + std::to_string(bytes) + " bytes";
}

std::string nearest(std::uintptr_t address) {
  const Buffer* buffer = last_buffer_from(address);
  if (buffer == nullptr && buffers.empty()) return "";
  if (buffer == nullptr) buffer = &buffers.begin()->second;
  const auto offset = static_cast<std::int64_t>(address - buffer->begin);
  return ", at byte " + std::to_string(offset) + " of " + buffer->name + " (" +
         std::to_string(buffer->bytes) + " bytes)";
}

struct Place {
  Space space;
  Shadow* shadow;  // null for what nobody writes
  std::size_t offset;
};

/// Where an access falls; ends the launch if nowhere or where it must not.
Place find(std::uintptr_t address, std::size_t bytes, bool is_write, const void* pc) {
  const SharedMemory::Place shared = running.block->shared.find(address, bytes);
  if (shared.shadow != nullptr) return {Space::kShared, shared.shadow, shared.offset};
  Buffer* buffer = last_buffer_from(address);
  const std::size_t offset = buffer == nullptr ? 0 : address - buffer->begin;
  if (buffer == nullptr || offset + bytes > buffer->bytes) {
    fail("out of bounds: " + describe(bytes, is_write) + " at " + text(pc) + nearest(address));
  }
  if (is_write && !buffer->writable) {
    fail("write to constant " + buffer->name + " at " + text(pc));
  }
  return {Space::kGlobal, buffer->writable ? &buffer->shadow : nullptr, offset};
}

void check_aligned(std::uintptr_t address, std::size_t bytes, bool is_write, const void* pc) {
  const bool is_vector = bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16;
  if (!is_vector || address % bytes == 0) return;
  fail("misaligned: " + describe(bytes, is_write) + " at " + text(pc));
}

}  // namespace

void add_buffer(void* data, std::size_t bytes, const char* name, bool writable) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  Buffer buffer{begin, bytes, name, writable, {}};
  buffer.shadow.resize(bytes);
  buffers.insert_or_assign(begin, std::move(buffer));
}

void clear_buffers() { buffers.clear(); }

void count_traffic(bool on) { counting = on; }

void forget_accesses() {
  for (auto& [begin, buffer] : buffers) buffer.shadow.forget();
}

void on_access(const void* pointer, std::size_t bytes, bool is_write, const void* pc) {
  if (running.thread == nullptr) return;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (running.thread->fiber.owns(address) || is_exempt(address)) return;
  check_aligned(address, bytes, is_write, pc);
  const Place place = find(address, bytes, is_write, pc);
  if (place.shadow != nullptr) place.shadow->record(place.offset, bytes, is_write, pc);
  if (counting) {
    const Thread& thread = *running.thread;
    running.block->warps[thread.warp].traffic.record(thread.lane, place.space, is_write, address,
                                                     bytes, pc);
  }
}

void require_writable(const void* pointer, std::size_t bytes, const void* pc) {
  find(reinterpret_cast<std::uintptr_t>(pointer), bytes, true, pc);
}

void require_readable(const void* pointer, std::size_t bytes, const void* pc) {
  find(reinterpret_cast<std::uintptr_t>(pointer), bytes, false, pc);
}

void on_arrival(const void* shared, std::size_t bytes, const void* pc) {
  const auto address = reinterpret_cast<std::uintptr_t>(shared);
  const SharedMemory::Place place = running.block->shared.find(address, bytes);
  place.shadow->record(place.offset, bytes, true, pc);
}

void add_traffic(const WarpTraffic& warp) { warp.add_to(traffic); }

Traffic take_traffic() { return std::exchange(traffic, {}); }

}  // namespace simt
