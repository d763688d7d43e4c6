#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/host_device.h"

namespace specbranch {

/// Uses of noise that must be independent of each other draw from different streams.
enum class NoiseStream : std::uint32_t { kGumbel = 0, kAccept = 1, kResidual = 2, kMix = 3 };

struct PhiloxKey {
  std::uint32_t low, high;
};

struct PhiloxWords {
  std::uint32_t w0, w1, w2, w3;
};

SPECBRANCH_HOST_DEVICE_INLINE PhiloxKey philox_key(std::int64_t seed) {
  const auto bits = static_cast<std::uint64_t>(seed);
  return {static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32)};
}

/// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC
/// 2011): four random words for each counter.
SPECBRANCH_HOST_DEVICE_INLINE PhiloxWords philox(PhiloxWords counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter.w0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter.w2;
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter.w1 ^ key.low,
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter.w3 ^ key.high,
               static_cast<std::uint32_t>(product0)};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return counter;
}

/// The noise of one use of one position of one request: a word for every token.
struct NoiseSource {
  PhiloxKey key;
  std::uint32_t position;
  NoiseStream stream;

  /// The words of tokens 4 * group ... 4 * group + 3.
  SPECBRANCH_HOST_DEVICE_INLINE PhiloxWords group_words(std::uint32_t group) const {
    return philox({position, group, static_cast<std::uint32_t>(stream), 0}, key);
  }

  SPECBRANCH_HOST_DEVICE_INLINE std::uint32_t word(std::uint32_t token) const {
    const PhiloxWords words = group_words(token / 4);
    const std::uint32_t low = token % 2 == 0 ? words.w0 : words.w1;
    const std::uint32_t high = token % 2 == 0 ? words.w2 : words.w3;
    return token % 4 < 2 ? low : high;
  }

  /// Uniform in [0, 1), with 24 bits.
  SPECBRANCH_HOST_DEVICE_INLINE float uniform(std::uint32_t token) const {
    return static_cast<float>(static_cast<std::int32_t>(word(token) >> 8)) * 0x1p-24f;
  }
};

/// Host: the four words of counter (c0, c1, c2, c3) under `seed` as key (low word, high word).
inline std::array<std::uint32_t, 4> philox4x32_10(std::int64_t seed, std::uint32_t c0,
                                                  std::uint32_t c1, std::uint32_t c2,
                                                  std::uint32_t c3) {
  const PhiloxWords words = philox({c0, c1, c2, c3}, philox_key(seed));
  return {words.w0, words.w1, words.w2, words.w3};
}

/// Host: the n-th seed derived from `seed`, for noise that must be fresh every time.
/// Throws std::invalid_argument unless 0 <= n < 2^32.
inline std::int64_t mix(std::int64_t seed, std::int64_t n) {
  if (n < 0 || n > 0xFFFFFFFF) {
    throw std::invalid_argument("mix: n: expected 0 <= n < 2^32, got " + std::to_string(n));
  }
  const auto stream = static_cast<std::uint32_t>(NoiseStream::kMix);
  const PhiloxWords words = philox({static_cast<std::uint32_t>(n), 0, stream, 0}, philox_key(seed));
  return static_cast<std::int64_t>(words.w0 | std::uint64_t{words.w1} << 32);
}

}  // namespace specbranch
