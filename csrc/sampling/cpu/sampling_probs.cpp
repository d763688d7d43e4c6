#include <algorithm>
#include <limits>

#include "common/cpu/parallel.h"
#include "sampling/cpu/filter.h"

namespace specbranch::SPECBRANCH_CPU_NS {

void sampling_probs(const SamplingProbsParams& p) {
  const std::int64_t vocab_size = p.logits.vocab_size;
  parallel_for(0, p.logits.num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    const RowBuffer row(vocab_size), weights(vocab_size);
    for (std::int64_t r = begin; r < end; ++r) {
      float* probs = p.probs + r * p.probs_stride;
      const float max = load_row(p.logits, r, row);
      if (!has_law(max)) {
        std::fill(probs, probs + vocab_size, std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const Law law = filter_row(row, max, p.filters[r], weights);
      const auto scale = static_cast<float>(1.0 / fill_weights(row, law, weights));
      for (std::int64_t i = 0; i < vocab_size; ++i) probs[i] = weights.data()[i] * scale;
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
