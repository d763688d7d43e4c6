#pragma once

#include <cstddef>
#include <cstdint>

namespace specbranch {

/// Element types of model data (queries, keys, values, logits).
enum class DType : std::uint8_t { kFloat32, kFloat16, kBFloat16 };

constexpr std::size_t size_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

}  // namespace specbranch
