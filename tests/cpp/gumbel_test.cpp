#include "common/gumbel.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "test.h"

namespace specbranch {
namespace {

// Both ends word by word, where cancellation would show, the seams of the formula, and a sweep.
std::vector<std::uint32_t> words() {
  std::vector<std::uint32_t> words;
  for (std::uint32_t i = 0; i < 100000; ++i) {
    words.insert(words.end(),
                 {i, ~i, 0x40000000u - 50000 + i, 0x4AFB0CCCu - 50000 + i, i * 42949u});
  }
  return words;
}

double exact_exponential(std::uint32_t x) { return -std::log1p(-(x + 0.5) / 4294967296.0); }

TEST(gumbel, exponential_noise_is_exact_to_float_rounding) {
  double worst = 0;
  for (const std::uint32_t x : words()) {
    const double exact = exact_exponential(x);
    worst = std::max(worst, std::fabs(exponential_noise(x) - exact) / exact);
  }
  CHECK(worst < 4e-7);
}

TEST(gumbel, gumbel_noise_is_exact_to_float_rounding) {
  double worst = 0;
  for (const std::uint32_t x : words()) {
    const double exact = -std::log(exact_exponential(x));
    worst = std::max(worst, std::fabs(gumbel_noise(x) - exact) / std::max(1.0, std::fabs(exact)));
  }
  CHECK(worst < 4e-7);
}

TEST(gumbel, bounds_hold_and_are_tight_at_the_end_that_decides) {
  double slack = 0;
  for (const std::uint32_t x : words()) {
    const float noise = gumbel_noise(x), bound = gumbel_bound(x);
    CHECK(noise <= bound);
    CHECK(noise <= kMaxGumbel);
    if (noise > 3) slack = std::max<double>(slack, bound - noise);
  }
  CHECK(slack < 0.1);
}

}  // namespace
}  // namespace specbranch
