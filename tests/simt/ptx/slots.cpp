#include "slots.hpp"

namespace simt::ptx {
namespace {

constexpr std::uint64_t kPoison = 0x7fc0dead7fc0dead;

}  // namespace

Slots::Slots(const std::vector<Draft>& drafts) {
  for (std::size_t n = 0; n < drafts.size(); ++n) {
    for (const std::string& name : drafts[n].operands) note(name, drafts[n].block, n);
    note(drafts[n].guard, drafts[n].block, n);
  }
  for (const auto& [name, use] : uses_) {
    if (use.in_one_block) ending_[use.last].push_back(name);
  }
}

void Slots::note(const std::string& name, int block, std::size_t n) {
  Use& use = uses_.try_emplace(name, Use{block, true, n}).first->second;
  use.in_one_block &= use.block == block;
  use.last = n;
}

std::uint32_t Slots::of_register(const std::string& name) {
  const auto [found, is_new] = registers_.try_emplace(name);
  if (is_new) found->second = free_slot();
  return found->second;
}

void Slots::end_instruction(std::size_t n) {
  for (const std::string& name : ending_[n]) {
    const auto found = registers_.find(name);
    if (found == registers_.end()) continue;
    free_.push_back(found->second);
    registers_.erase(found);
  }
}

std::uint32_t Slots::free_slot() {
  if (free_.empty()) return add(kPoison);
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  return slot;
}

std::uint32_t Slots::of_constant(std::uint64_t value) {
  const auto [found, is_new] = constants_.try_emplace(value);
  if (is_new) found->second = add(value);
  return found->second;
}

std::uint32_t Slots::add(std::uint64_t value) {
  initial_.push_back(value);
  return static_cast<std::uint32_t>(initial_.size() - 1);
}

}  // namespace simt::ptx
