#pragma once

#include <cstdint>
#include <type_traits>

#include "common/host_device.h"
#include "sampling/cuda/block.cuh"

// A row of the vocabulary is cut into tiles. A warp holds a tile in registers: a lane has kGroups
// groups of four consecutive tokens, which share a counter of the noise.
//
//   tile: | group 0: lane 0 (4 tokens), lane 1, ... lane 31 | group 1: ... | group 2 | group 3 |
namespace specbranch {

inline constexpr int kGroups = 4;
static_assert(kTileTokens == kGroups * 4 * kWarpThreads);
inline constexpr float kNoLogit = -__builtin_huge_valf();  // -inf: never drawn

/// Four neighbouring logits as one load brings them, and four bits that say which are allowed.
template <class T>
struct FourLogits {
  using Bits = std::conditional_t<sizeof(T) == 4, uint4, std::uint64_t>;
  struct Logits {
    T logits[4];
  };
  Bits bits;
  std::uint32_t allowed;

  /// `logits` are aligned as Bits.
  __device__ static Bits at(const T* logits) {
    if constexpr (sizeof(T) == 4) {
      return load_16(logits);
    } else {
      return *reinterpret_cast<const Bits*>(logits);
    }
  }

  __device__ void convert(float (&x)[4]) const {
    const auto four = __builtin_bit_cast(Logits, bits);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = allowed >> i & 1 ? static_cast<float>(four.logits[i]) : kNoLogit;
    }
  }
};

/// One row of logits, of which those that are not allowed are -inf.
template <class T>
class Row {
 public:
  /// allowed: words of bits, or null.
  __device__ Row(const T* logits, std::int64_t vocab_size, const std::int32_t* allowed = nullptr)
      : vocab_size(vocab_size),
        logits_(logits),
        allowed_(allowed),
        aligned_(reinterpret_cast<std::uintptr_t>(logits) % sizeof(typename FourLogits<T>::Bits) ==
                 0) {}

  /// Logits of tokens first ... first + 3, -inf behind the end. `first` is a multiple of 4.
  __device__ FourLogits<T> load(std::int64_t first) const {
    const std::uint32_t allowed = first < vocab_size ? allowed_from(first) : 0;
    if (aligned_ && first + 4 <= vocab_size) {
      return {FourLogits<T>::at(logits_ + first), allowed};
    }
    typename FourLogits<T>::Logits four;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      four.logits[i] = first + i < vocab_size ? logits_[first + i] : static_cast<T>(kNoLogit);
    }
    return {__builtin_bit_cast(typename FourLogits<T>::Bits, four), allowed};
  }
  __device__ void load(std::int64_t first, float (&x)[4]) const { load(first).convert(x); }

  __device__ float operator[](std::int64_t token) const {
    return allowed_from(token) & 1 ? static_cast<float>(logits_[token]) : kNoLogit;
  }

  const std::int64_t vocab_size;

 private:
  /// Bits from that of a token on, up to the end of its word.
  __device__ std::uint32_t allowed_from(std::int64_t token) const {
    if (allowed_ == nullptr) return ~0u;
    return static_cast<std::uint32_t>(allowed_[token / 32]) >> (token % 32);
  }

  const T* logits_;
  const std::int32_t* allowed_;
  bool aligned_;
};

/// One row of results.
class MutableRow {
 public:
  __device__ MutableRow(float* values, std::int64_t vocab_size)
      : values_(values),
        vocab_size_(vocab_size),
        aligned_(reinterpret_cast<std::uintptr_t>(values) % sizeof(float4) == 0) {}

  /// Values of tokens first ... first + 3 that lie in the row. `first` is a multiple of 4.
  __device__ void store(std::int64_t first, const float (&x)[4]) const {
    if (aligned_ && first + 4 <= vocab_size_) {
      store_16(values_ + first, __builtin_bit_cast(uint4, float4{x[0], x[1], x[2], x[3]}));
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i < vocab_size_) values_[first + i] = x[i];
    }
  }

 private:
  float* values_;
  std::int64_t vocab_size_;
  bool aligned_;
};

template <class T>
__device__ Row<T> row_at(const void* logits, std::int64_t offset, std::int64_t vocab_size,
                         const std::int32_t* allowed = nullptr) {
  return Row<T>(static_cast<const T*>(logits) + offset, vocab_size, allowed);
}

/// The tile that this warp has in the pass over a row, which is split over the grid's y.
__device__ inline std::int64_t tile_of_warp() {
  return std::int64_t{blockIdx.y} * kRowWarps + warp_index();
}

__device__ inline std::int64_t first_token(std::int64_t tile, int group) {
  return tile * kTileTokens + group * (4 * kWarpThreads) + lane_index() * 4;
}

/// This lane's tokens of a tile, on their way from memory until they are converted.
template <class T>
struct LoadingTile {
  const std::int64_t index;
  FourLogits<T> groups[kGroups];

  __device__ LoadingTile(const Row<T>& row, std::int64_t index) : index(index) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group)
      groups[group] = row.load(first_token(index, group));
  }
};

/// This lane's tokens of a tile; past the end of the row, logits of -inf.
struct Tile {
  const std::int64_t index;
  float x[kGroups][4];

  template <class T>
  __device__ explicit Tile(const LoadingTile<T>& loading) : index(loading.index) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) loading.groups[group].convert(x[group]);
  }
  template <class T>
  __device__ Tile(const Row<T>& row, std::int64_t index) : Tile(LoadingTile<T>(row, index)) {}

  /// The warp's largest logit; NaN if any is.
  __device__ float max() const {
    const LargestOrNan join;
    float largest = kNoLogit;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) largest = join(largest, x[group][i]);
    }
    return warp_reduce(largest, join);
  }
};

/// Calls visit(tile) from whole warps for the tiles with wanted(tile), 32 of which are asked about
/// at once. Neighbours go to different warps, as likely tokens often stand together.
template <class Wanted, class Visit>
__device__ void for_each_tile(std::int64_t count, const Wanted& wanted, const Visit& visit) {
  for (std::int64_t base = warp_index(); base < count; base += kRowWarps * kWarpThreads) {
    const std::int64_t mine = base + kRowWarps * lane_index();
    unsigned found = __ballot_sync(kFullWarp, mine < count && wanted(mine));
    for (; found != 0; found &= found - 1) visit(base + kRowWarps * (__ffs(found) - 1));
  }
}

/// Calls visit(logit, id) for the finite logits of the tiles with wanted(tile).
template <class T, class Wanted, class Visit>
__device__ void for_each_token(const Row<T>& row, const Wanted& wanted, const Visit& visit) {
  for_each_tile(num_tiles(row.vocab_size), wanted, [&](std::int64_t index) {
    const Tile tile(row, index);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const auto first = static_cast<std::int32_t>(first_token(tile.index, group));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (tile.x[group][i] > kNoLogit) visit(tile.x[group][i], first + i);
      }
    }
  });
}

}  // namespace specbranch
