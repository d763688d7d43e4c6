#include "common/cpu/capability.h"

#include <algorithm>
#include <cstdlib>

#include "common/cpu/kernels.h"
#include "test.h"

namespace specbranch {
namespace {

TEST(capability, names_are_read_back) {
  for (const auto capability :
       {CpuCapability::kDefault, CpuCapability::kAvx2, CpuCapability::kAvx512}) {
    CHECK(parse_cpu_capability(name_of(capability)) == capability);
  }
  CHECK(!parse_cpu_capability("AVX2"));
}

TEST(capability, the_best_variant_that_runs_here_is_chosen) {
  unsetenv("SPECBRANCH_CPU_CAPABILITY");
  const auto variants = compiled_cpu_variants();
  const auto rank = [](const CpuVariant& variant) { return variant.capability; };
  CHECK(std::ranges::is_sorted(variants, {}, rank));
  auto best = variants.front().capability;
  for (const CpuVariant& variant : variants) {
    if (variant.capability <= machine_cpu_capability()) best = variant.capability;
  }
  CHECK(cpu_variant().capability == best);
}

}  // namespace
}  // namespace specbranch
