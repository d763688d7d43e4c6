// The module specbranch._C: the registered ops under their own names, and host-side functions.
#include <pybind11/pybind11.h>

#include <string>

#include "build_config.h"
#include "common/cpu_kernels.h"
#include "common/philox.h"
#include "register.h"
#include "tree_bindings.h"
#include "workspace_sizes.h"

namespace py = pybind11;

namespace specbranch {
namespace {

std::string compiled_cpu_capabilities() {
  std::string names;
  for (const CpuVariant& variant : compiled_cpu_variants()) {
    if (!names.empty()) names += ' ';
    names += name_of(variant.capability);
  }
  return names;
}

py::dict build_info() {
  py::dict info;
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

py::tuple philox_words(std::int64_t seed, std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                       std::uint32_t c3) {
  const auto words = philox4x32_10(seed, c0, c1, c2, c3);
  return py::make_tuple(words[0], words[1], words[2], words[3]);
}

void carry_ops(py::module_& module) {
  const py::object ops = py::module_::import("torch").attr("ops").attr("specbranch");
  for (const char* schema : op_schemas()) {
    const std::string text(schema);
    const std::string name = text.substr(0, text.find('('));
    module.attr(name.c_str()) = ops.attr(name.c_str());
  }
}

}  // namespace
}  // namespace specbranch

PYBIND11_MODULE(_C, module) {
  module.doc() = "Kernels of SpecBranch: the ops of torch.ops.specbranch and host-side functions.";
  module.def("build_info", &specbranch::build_info, "What this binary was built from and for.");
  module.def("mix", &specbranch::mix, py::arg("seed"), py::arg("n"), "A seed derived from a seed.");
  module.def("philox", &specbranch::philox_words, py::arg("seed"), py::arg("c0"), py::arg("c1"),
             py::arg("c2"), py::arg("c3"), "The four words of Philox4x32-10.");
  specbranch::add_workspace_sizes(module);
  specbranch::add_tree(module);
  specbranch::carry_ops(module);
  py::module_::import("specbranch.fakes");
}
