#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace specbranch {

inline constexpr int kRowThreads = 512;
/// 128 registers a thread, for a tile of logits and the noise of four tokens at a time, are all
/// that a multiprocessor has for one block: 16 of its 64 warps (48 on some), each with a tile under
/// way.
inline constexpr int kRowBlocksPerSm = 1;
inline constexpr int kRowWarps = kRowThreads / 32;
inline constexpr int kTileTokens = 512;

/// What one pass over a row leaves of each tile of its vocabulary; log weights and scores in it are
/// relative to `max`.
struct TileStats {
  float max;     // logit
  float weight;  // sum of exp(log weight)
  float best;    // highest score
};

SPECBRANCH_HOST_DEVICE_INLINE std::int64_t num_tiles(std::int64_t vocab_size) {
  return (vocab_size + kTileTokens - 1) / kTileTokens;
}

/// Blocks that a row is split over.
SPECBRANCH_HOST_DEVICE_INLINE std::int64_t blocks_of_row(std::int64_t vocab_size) {
  return (num_tiles(vocab_size) + kRowWarps - 1) / kRowWarps;
}

}  // namespace specbranch
