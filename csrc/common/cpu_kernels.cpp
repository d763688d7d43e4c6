#include "common/cpu_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

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

struct Variant {
  CpuCapability capability;
  const CpuKernels* kernels;
};

const std::vector<Variant>& compiled_variants() {
  static const std::vector<Variant> variants = {
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
  return variants;
}

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

const Variant& choose_variant() {
  const CpuCapability highest = highest_wanted();
  const Variant* chosen = nullptr;
  for (const Variant& variant : compiled_variants()) {
    if (variant.capability <= highest) chosen = &variant;
  }
  if (chosen == nullptr) {
    throw std::runtime_error("specbranch: the CPU kernels were built for " +
                             compiled_cpu_capabilities() + ", but only " +
                             std::string(name_of(highest)) +
                             " may be used here; build with SPECBRANCH_CPU_DISPATCH=all");
  }
  return *chosen;
}

const Variant& chosen_variant() {
  static const Variant& variant = choose_variant();
  return variant;
}

}  // namespace

const CpuKernels& cpu_kernels() { return *chosen_variant().kernels; }

CpuCapability cpu_kernels_capability() { return chosen_variant().capability; }

std::string compiled_cpu_capabilities() {
  std::string names;
  for (const Variant& variant : compiled_variants()) {
    if (!names.empty()) names += ' ';
    names += name_of(variant.capability);
  }
  return names;
}

}  // namespace specbranch
