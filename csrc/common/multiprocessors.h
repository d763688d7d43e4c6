#pragma once

namespace specbranch {

/// Of the current CUDA device. Throws std::runtime_error where there is none.
int num_multiprocessors();

}  // namespace specbranch
