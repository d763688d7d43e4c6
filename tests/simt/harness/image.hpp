#pragma once

#include <cstdint>

namespace simt {

/// Whether an address is nothing that the device has: constants in the loaded file that holds this
/// code, and the built-in variables of threads.
bool is_exempt(std::uintptr_t address);

}  // namespace simt
