#pragma once

#include <span>

namespace specbranch {

/// The schema of every op of the library, "name(arguments) -> results".
std::span<const char* const> op_schemas();

}  // namespace specbranch
