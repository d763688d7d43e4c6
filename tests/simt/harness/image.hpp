#pragma once

#include <cstdint>

namespace simt {

/// Whether an address is in the loaded file that holds this code: constants, and the built-in
/// variables of threads.
bool in_image(std::uintptr_t address);

}  // namespace simt
