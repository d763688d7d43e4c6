#include "common/cpu/capability.h"

#include <array>
#include <utility>

namespace specbranch {
namespace {

constexpr std::array kNames = {
    std::pair{CpuCapability::kDefault, std::string_view("default")},
    std::pair{CpuCapability::kAvx2, std::string_view("avx2")},
    std::pair{CpuCapability::kAvx512, std::string_view("avx512")},
};

}  // namespace

std::string_view name_of(CpuCapability capability) {
  return kNames[static_cast<std::size_t>(capability)].second;
}

std::optional<CpuCapability> parse_cpu_capability(std::string_view name) {
  for (const auto& [capability, its_name] : kNames) {
    if (its_name == name) return capability;
  }
  return std::nullopt;
}

// What is asked here must cover the -m flags of cmake/CpuCapability.cmake.
CpuCapability machine_cpu_capability() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (!avx2) return CpuCapability::kDefault;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  return avx512 ? CpuCapability::kAvx512 : CpuCapability::kAvx2;
#else
  return CpuCapability::kDefault;
#endif
}

}  // namespace specbranch
