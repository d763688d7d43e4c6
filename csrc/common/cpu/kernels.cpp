#include "common/cpu/kernels.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace specbranch {

namespace default_ {
extern const CpuKernels kernels;
}
namespace avx2 {
extern const CpuKernels kernels;
}
namespace avx512 {
extern const CpuKernels kernels;
}

namespace {

constexpr CpuVariant kCompiledVariants[] = {
#if defined(SPECBRANCH_WITH_CPU_DEFAULT)
    {CpuCapability::kDefault, &default_::kernels},
#endif
#if defined(SPECBRANCH_WITH_CPU_AVX2)
    {CpuCapability::kAvx2, &avx2::kernels},
#endif
#if defined(SPECBRANCH_WITH_CPU_AVX512)
    {CpuCapability::kAvx512, &avx512::kernels},
#endif
};

CpuCapability highest_wanted() {
  const char* variable = std::getenv("SPECBRANCH_CPU_CAPABILITY");
  if (variable == nullptr || *variable == '\0') return machine_cpu_capability();
  const auto wanted = parse_cpu_capability(variable);
  if (!wanted) {
    throw std::runtime_error("SPECBRANCH_CPU_CAPABILITY: expected default, avx2 or avx512, got '" +
                             std::string(variable) + "'");
  }
  return std::min(*wanted, machine_cpu_capability());
}

const CpuVariant& choose_variant() {
  const CpuCapability highest = highest_wanted();
  const CpuVariant* chosen = nullptr;
  for (const CpuVariant& variant : kCompiledVariants) {
    if (variant.capability <= highest) chosen = &variant;
  }
  if (chosen == nullptr) {
    throw std::runtime_error(
        "specbranch: the CPU kernels need at least " +
        std::string(name_of(kCompiledVariants[0].capability)) + ", but only " +
        std::string(name_of(highest)) +
        " may be used here; build with SPECBRANCH_CPU_DISPATCH=all for older processors");
  }
  return *chosen;
}

}  // namespace

std::span<const CpuVariant> compiled_cpu_variants() { return kCompiledVariants; }

const CpuVariant& cpu_variant() {
  static const CpuVariant& variant = choose_variant();
  return variant;
}

}  // namespace specbranch
