#pragma once

#include <cstdint>

#include "sampling/cuda/draw.cuh"

namespace specbranch {

/// The law of one row, P(token) = weight * scale.
struct RowLaw {
  Law law;
  Cutoff cutoff;
  float scale;

  __device__ float weight(float logit, std::int64_t id) const {
    const bool kept = cutoff.keeps(law, logit, static_cast<std::int32_t>(id));
    return kept ? expf(law.log_weight(logit)) : 0.0f;
  }
};

/// By the block that came last to the row.
template <class T, class Stats>
__device__ RowLaw find_law(const Row<T>& row, const Stats* tiles, const Filter& filter) {
  const float max = row_max(tiles, num_tiles(row.vocab_size));
  RowLaw found{law_of(max, filter.temperature), {}, 0.0f};
  if (!found.law.exists()) return found;
  found.cutoff = find_cutoff(row, tiles, found.law, filter);
  found.scale = 1.0f / kept_weight(row, tiles, found.law, found.cutoff);
  return found;
}

}  // namespace specbranch
