#pragma once

#include <pybind11/pybind11.h>

namespace specbranch {

/// Adds NAME_workspace_size(...) for the ops whose _out form takes a workspace.
void add_workspace_sizes(pybind11::module_& module);

}  // namespace specbranch
