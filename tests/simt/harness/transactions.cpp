#include "transactions.hpp"

#include <algorithm>
#include <set>

namespace simt {
namespace {

constexpr std::size_t kSectorBytes = 32;
constexpr std::size_t kBankBytes = 4;
constexpr std::size_t kBanks = 32;
constexpr int kLanes = 32;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

using Words = std::set<std::uintptr_t>;  // 4-byte words, or sectors

Words touched(const std::uintptr_t* addresses, int count, std::size_t bytes, std::size_t unit) {
  Words words;
  for (int i = 0; i < count; ++i) {
    if (addresses[i] == 0) continue;
    for (std::uintptr_t word = addresses[i] / unit; word * unit < addresses[i] + bytes; ++word) {
      words.insert(word);
    }
  }
  return words;
}

std::int64_t passes_over_banks(const Words& words) {
  std::int64_t per_bank[kBanks] = {};
  for (const std::uintptr_t word : words) ++per_bank[word % kBanks];
  return *std::max_element(per_bank, per_bank + kBanks);
}

void add_global(const std::uintptr_t* addresses, std::size_t bytes, Transactions& sum) {
  const Words sectors = touched(addresses, kLanes, bytes, kSectorBytes);
  const Words words = touched(addresses, kLanes, bytes, kBankBytes);
  sum.transactions += static_cast<std::int64_t>(sectors.size());
  sum.ideal += divide_up(static_cast<std::int64_t>(words.size() * kBankBytes), kSectorBytes);
}

/// Accesses of 8 and 16 bytes a lane are served by half and quarter warps.
void add_shared(const std::uintptr_t* addresses, std::size_t bytes, Transactions& sum) {
  const int phases = static_cast<int>(std::max<std::size_t>(bytes / kBankBytes, 1));
  const int lanes = kLanes / phases;
  for (int phase = 0; phase < phases; ++phase) {
    const Words words = touched(addresses + phase * lanes, lanes, bytes, kBankBytes);
    sum.transactions += passes_over_banks(words);
    sum.ideal += divide_up(static_cast<std::int64_t>(words.size()), kBanks);
  }
}

}  // namespace

void WarpTraffic::record(int lane, Space space, bool is_write, std::uintptr_t address,
                         std::size_t bytes, const void* pc) {
  Instruction& instruction = instructions_[static_cast<std::size_t>(space)][pc];
  instruction.is_write = is_write;
  instruction.bytes = bytes;
  const std::uint32_t execution = instruction.executions[lane]++;
  if (execution == instruction.requests.size()) instruction.requests.push_back({});
  instruction.requests[execution][lane] = address;
}

void WarpTraffic::add_to(Traffic& traffic) const {
  for (const Space space : {Space::kGlobal, Space::kShared}) {
    const auto add = space == Space::kGlobal ? add_global : add_shared;
    for (const auto& [pc, instruction] : instructions_[static_cast<std::size_t>(space)]) {
      Transactions& sum = traffic.of(space, instruction.is_write);
      for (const Addresses& addresses : instruction.requests) {
        ++sum.requests;
        add(addresses.data(), instruction.bytes, sum);
      }
    }
  }
}

}  // namespace simt
