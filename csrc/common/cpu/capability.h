#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace specbranch {

/// Instruction sets that CPU kernels are compiled for, each including the ones before it. AVX-512
/// is with VNNI, its byte products.
enum class CpuCapability : std::uint8_t { kDefault, kAvx2, kAvx512 };

std::string_view name_of(CpuCapability capability);
std::optional<CpuCapability> parse_cpu_capability(std::string_view name);

/// The best capability of the processor we run on.
CpuCapability machine_cpu_capability();

}  // namespace specbranch
