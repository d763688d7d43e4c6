#pragma once

#include <pybind11/pybind11.h>

namespace specbranch {

/// Adds Reliability, Tree and write_questions.
void add_tree(pybind11::module_& module);

}  // namespace specbranch
