// How large a workspace the _out ops want, for engines that allocate it once.
#include "workspace_sizes.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "attention/split_plan.h"
#include "sampling/launch.h"
#include "verify/launch.h"

namespace py = pybind11;

namespace specbranch {
namespace {

/// Floats of a workspace for these sizes; a build without CUDA needs none.
template <auto kWorkspace, class... Sizes>
std::int64_t num_floats(Sizes... sizes) {
  const std::int64_t smallest = std::min({sizes...});
  if (smallest < 0) {
    throw std::invalid_argument("workspace size: expected sizes of at least 0, got " +
                                std::to_string(smallest));
  }
#if defined(SPECBRANCH_WITH_CUDA)
  return kWorkspace(sizes...).num_floats();
#else
  return 0;
#endif
}

constexpr const char* kDoc =
    "Floats of workspace that suffice for as many as these; the CPU needs none.";

template <auto kWorkspace>
void add_of_rows(py::module_& module, const char* name) {
  module.def(name, &num_floats<kWorkspace, std::int64_t, std::int64_t>, kDoc, py::arg("rows"),
             py::arg("vocab_size"));
}

}  // namespace

void add_workspace_sizes(py::module_& module) {
  module.def(
      "branch_attention_workspace_size",
      &num_floats<largest_attention_workspace, std::int64_t, std::int64_t>,
      "Floats of workspace that suffice on a GPU of so many multiprocessors, for this head_dim\n"
      "and smaller ones, whatever the other sizes are, in calls without a split_size.",
      py::arg("head_dim"), py::arg("num_multiprocessors"));
  add_of_rows<sampling_probs_workspace>(module, "sampling_probs_workspace_size");
  add_of_rows<sample_workspace>(module, "sample_workspace_size");
  add_of_rows<draft_topk_workspace>(module, "draft_topk_workspace_size");
  module.def("verify_tree_workspace_size",
             &num_floats<verify_tree_workspace, std::int64_t, std::int64_t, std::int64_t>, kDoc,
             py::arg("batch_size"), py::arg("num_rows"), py::arg("vocab_size"));
}

}  // namespace specbranch
