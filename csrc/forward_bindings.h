#pragma once

#include <pybind11/pybind11.h>

namespace specbranch {

/// Adds Decoder and what it is made of.
void add_forward(pybind11::module_& module);

}  // namespace specbranch
