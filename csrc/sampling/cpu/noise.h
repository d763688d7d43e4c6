#pragma once

#include <algorithm>
#include <cstdint>

#include "common/gumbel.h"
#include "sampling/cpu/row.h"

// Noise words of a tile of tokens. The loops are plain so that the compiler vectorises them.
namespace specbranch::SPECBRANCH_CPU_NS {

/// The tokens are the columns themselves: a group of four shares a counter.
struct ColumnNoise {
  NoiseSource source;

  void operator()(std::int64_t first, std::uint32_t* words) const {
    const auto first_group = static_cast<std::uint32_t>(first / 4);
    for (std::uint32_t group = 0; group < kTile / 4; ++group) {
      const PhiloxWords four = source.group_words(first_group + group);
      words[4 * group] = four.w0;
      words[4 * group + 1] = four.w1;
      words[4 * group + 2] = four.w2;
      words[4 * group + 3] = four.w3;
    }
  }
};

/// Column i is token token_ids[i], i < size.
struct MappedNoise {
  NoiseSource source;
  const std::int32_t* token_ids;
  std::int64_t size;

  void operator()(std::int64_t first, std::uint32_t* words) const {
    const std::int64_t count = std::min(kTile, size - first);
    for (std::int64_t i = 0; i < count; ++i) {
      words[i] = source.word(static_cast<std::uint32_t>(token_ids[first + i]));
    }
    std::fill(words + count, words + kTile, 0u);
  }
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
