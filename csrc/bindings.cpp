// The module specbranch._C: the registered ops under their own names, and host-side functions.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <string>

#include "build_config.h"
#include "common/cpu/kernels.h"
#include "common/cpu/lent_cores.h"
#include "common/philox.h"
#include "forward_bindings.h"
#include "register.h"
#include "tree_bindings.h"
#include "workspace_sizes.h"

namespace py = pybind11;

namespace specbranch {
namespace {

/// Counts the changes of the ops' arguments and results that their callers must follow.
constexpr int kContract = 4;

constexpr const char* kDoc =
    R"(The binary module: ops registered with torch as `specbranch::NAME`, and host-side functions.

B requests, N nodes, T rows of all requests, R rows of logits, Hq/Hkv heads, D head_dim,
V vocabulary, P pages of S slots, M table entries, W = ceil(N / 32) words. Indices, lengths and
positions are int32, seeds int64, -1 pads. Data (q, k, v, caches, logits) is float32, float16 or
bfloat16 with any strides and a contiguous last dimension; sums are float32. Wrong shapes, dtypes,
devices or strides raise ValueError. An `_out` form writes the tensors given and returns nothing.

Where an `_out` form takes a workspace, it is float32 scratch [size] on the device of the other
tensors, and nothing is allocated where it is given. On CUDA it is filled with zeros before its
first use; every call leaves it ready for the next one, so it serves any number of calls of all ops
that follow each other on a stream. NAME_workspace_size(...) says how many floats suffice for calls
of these sizes and of smaller ones (0 in a build for the CPU alone).

Rows of all requests stand one after another: those of request b are row_indptr[b] to
row_indptr[b + 1] of T, with row_indptr int32 [B + 1] on the device of the other tensors, from 0 on
and never decreasing. A request may have none. Rows from row_indptr[B] on are padding: nothing is
read or written for them, so what a functional form returns there is arbitrary.

Logical position i of a request lies in page block_table[b, i // S], slot i % S. Node i of its
draft block is stored at position context_lens[b] + i.)";

std::string compiled_cpu_capabilities() {
  std::string names;
  for (const CpuVariant& variant : compiled_cpu_variants()) {
    if (!names.empty()) names += ' ';
    names += name_of(variant.capability);
  }
  return names;
}

py::typing::Dict<py::str, py::str> build_info() {
  py::typing::Dict<py::str, py::str> info;
  info["version"] = SPECBRANCH_VERSION;
  info["git_hash"] = SPECBRANCH_GIT_HASH;
  info["compiler"] = SPECBRANCH_COMPILER;
  info["torch_build"] = SPECBRANCH_TORCH_BUILD;
  info["cuda"] = SPECBRANCH_CUDA_VERSION;
  info["cuda_archs"] = SPECBRANCH_CUDA_ARCHS;
  info["cpu_capabilities"] = compiled_cpu_capabilities();
  info["cpu_capability"] = std::string(name_of(cpu_variant().capability));
  return info;
}

using FourWords = py::typing::Tuple<py::int_, py::int_, py::int_, py::int_>;

FourWords philox_words(std::int64_t seed, std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                       std::uint32_t c3) {
  const auto words = philox4x32_10(seed, c0, c1, c2, c3);
  return py::make_tuple(words[0], words[1], words[2], words[3]);
}

void carry_ops(py::module_& module) {
  const py::object bind = py::module_::import("specbranch.binding").attr("bind");
  for (const Op& op : all_ops()) {
    const std::string schema(op.schema);
    const std::string name = schema.substr(0, schema.find('('));
    module.attr(name.c_str()) = bind(name, op.doc);
  }
}

}  // namespace
}  // namespace specbranch

PYBIND11_MODULE(_C, module) {
  module.doc() = specbranch::kDoc;
  module.attr("contract") = specbranch::kContract;
  module.def("build_info", &specbranch::build_info, "What this binary was built from and for.");
  module.def("mix", &specbranch::mix, py::arg("seed"), py::arg("n"),
             "A seed derived from a seed: the first two words of Philox at (n, 0, mix stream, 0).");
  module.def("philox", &specbranch::philox_words, py::arg("seed"), py::arg("c0"), py::arg("c1"),
             py::arg("c2"), py::arg("c3"),
             "The four words of Philox4x32-10 for key = seed and this counter.");
  module.def(
      "lend_cores", &specbranch::lend_cores, py::arg("cores"),
      "Numbers of cores that forwards in one call, of this thread, use beside its own while\n"
      "no other thread's is running. Replaces those that it was lent before.");
  specbranch::add_workspace_sizes(module);
  specbranch::add_tree(module);
  specbranch::add_forward(module);
  specbranch::carry_ops(module);
}
