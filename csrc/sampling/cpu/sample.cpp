#include "common/cpu/parallel.h"
#include "sampling/cpu/scores.h"

namespace specbranch::SPECBRANCH_CPU_NS {

void sample(const SampleParams& p) {
  parallel_for(0, p.logits.num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    const RowBuffer row(p.logits.vocab_size), weights(p.logits.vocab_size);
    for (std::int64_t r = begin; r < end; ++r) {
      p.ids[r] = -1;
      const float max =
          keep_allowed(row, p.allowed.row(r), p.logits.vocab_size, load_row(p.logits, r, row));
      if (!has_law(max)) continue;
      const NoiseSource noise{philox_key(p.seed[r]), static_cast<std::uint32_t>(p.position[r]),
                              NoiseStream::kGumbel};
      p.ids[r] = draw_token(row, filter_row(row, max, p.filters[r], weights), noise);
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
