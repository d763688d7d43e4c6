#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "common/cpu/vec.h"
#include "linear/params.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Integer products of a group: unsigned levels of kLanes outputs with signed levels of rows.
//
//   Dots<bits, rows> dots;
//   for (each slice) dots.add(slice, levels_of_the_first_row, row_stride);
//   dots.get(r)   // of row r, exact
namespace specbranch::SPECBRANCH_CPU_NS {

#if defined(CPU_CAPABILITY_AVX512)

/// Rows whose sums the registers hold.
inline constexpr int kMaxRows = 8;

inline __m512i broadcast_four(const std::int8_t* levels) {
  std::int32_t four;
  std::memcpy(&four, levels, sizeof(four));
  return _mm512_set1_epi32(four);
}

template <int kBits, int kRows>
class Dots {
 public:
  void add(const std::uint8_t* slice, const std::int8_t* levels, std::int64_t stride) {
    const __m512i bytes = _mm512_loadu_si512(slice);
    const __m512i low = kBits == 4 ? _mm512_and_si512(bytes, _mm512_set1_epi8(15)) : bytes;
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::int8_t* x = levels + r * stride;
      __m512i& first = sums_[r][turn_ % kSums];
      first = _mm512_dpbusd_epi32(first, low, broadcast_four(x));
      if constexpr (kBits == 4) {
        __m512i& second = sums_[r][kSums - 1];
        second = _mm512_dpbusd_epi32(second, high, broadcast_four(x + 4));
      }
    }
    turn_ += kBits == 8;
  }

  Vec get(int r) const {
    const __m512i all =
        kSums == 1 ? sums_[r][0] : _mm512_add_epi32(sums_[r][0], sums_[r][kSums - 1]);
    return _mm512_cvtepi32_ps(all);
  }

 private:
  // Few rows would wait for their chain of sums.
  static constexpr int kSums = kRows <= 4 ? 2 : 1;
  __m512i sums_[kRows][kSums] = {};
  int turn_ = 0;
};

#elif defined(CPU_CAPABILITY_AVX2)

inline constexpr int kMaxRows = 4;

// Products of half bytes with signed bytes, two by two, fit into 16 bits for all of a group:
// 16 * 15 * 127 = 30,480. So bytes go in two halves.
template <int kBits, int kRows>
class Dots {
 public:
  void add(const std::uint8_t* slice, const std::int8_t* levels, std::int64_t stride) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(slice));
    const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const std::int8_t* x = levels + r * stride;
      const __m256i first = broadcast_four(x);
      const __m256i second = kBits == 4 ? broadcast_four(x + 4) : first;
      __m256i& low_sum = sums_[r][0];
      __m256i& high_sum = sums_[r][kBits == 4 ? 0 : 1];
      low_sum = _mm256_add_epi16(low_sum, _mm256_maddubs_epi16(low, first));
      high_sum = _mm256_add_epi16(high_sum, _mm256_maddubs_epi16(high, second));
    }
  }

  Vec get(int r) const {
    __m256i all = _mm256_madd_epi16(sums_[r][0], _mm256_set1_epi16(1));
    if constexpr (kBits == 8) {
      all = _mm256_add_epi32(all, _mm256_madd_epi16(sums_[r][1], _mm256_set1_epi16(16)));
    }
    return _mm256_cvtepi32_ps(all);
  }

 private:
  static __m256i broadcast_four(const std::int8_t* levels) {
    std::int32_t four;
    std::memcpy(&four, levels, sizeof(four));
    return _mm256_set1_epi32(four);
  }

  __m256i sums_[kRows][kBits == 4 ? 1 : 2] = {};
};

#else

inline constexpr int kMaxRows = 2;

// Of bytes in two halves, too, in loops over 16 bits that compilers turn into vectors.
template <int kBits, int kRows>
class Dots {
 public:
  void add(const std::uint8_t* slice, const std::int8_t* levels, std::int64_t stride) {
    for (int r = 0; r < kRows; ++r) {
      const std::int8_t* x = levels + r * stride;
      const Bytes first = repeat_four(x);
      const Bytes second = kBits == 4 ? repeat_four(x + 4) : first;
      std::int16_t* low_sum = sums_[r][0];
      std::int16_t* high_sum = sums_[r][kBits == 4 ? 0 : 1];
      for (int i = 0; i < kBytes; ++i) low_sum[i] += (slice[i] & 15) * first[i];
      for (int i = 0; i < kBytes; ++i) high_sum[i] += (slice[i] >> 4) * second[i];
    }
  }

  Vec get(int r) const {
    float all[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      std::int32_t sum = 0;
      for (int i = 4 * lane; i < 4 * lane + 4; ++i) {
        sum += sums_[r][0][i];
        if constexpr (kBits == 8) sum += 16 * sums_[r][1][i];
      }
      all[lane] = static_cast<float>(sum);
    }
    return Vec::loadu(all);
  }

 private:
  static constexpr int kBytes = 4 * kLanes;
  using Bytes = std::array<std::int8_t, kBytes>;

  static Bytes repeat_four(const std::int8_t* levels) {
    Bytes repeated;
    for (int i = 0; i < kBytes; i += 4) std::memcpy(&repeated[i], levels, 4);
    return repeated;
  }

  std::int16_t sums_[kRows][kBits == 4 ? 1 : 2][kBytes] = {};
};

#endif

}  // namespace specbranch::SPECBRANCH_CPU_NS
