// The forward of a decoder for Python: its parts, then the whole.
#include "forward_bindings.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/check.h"
#include "forward/linear.h"
#include "tensor_caster.h"
#include "torch_ops/decoder.h"
#include "torch_ops/linears.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace specbranch {
namespace {

using AnyLinear = std::shared_ptr<Linear>;
using MaybeNorm = std::optional<NormTensors>;

DType dtype_of_rows(const char* what, const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float16") return DType::kFloat16;
  if (name == "bfloat16") return DType::kBFloat16;
  throw_bad_argument(what, "dtype", "float32, float16 or bfloat16", name);
}

Activation activation_of(const std::string& name) {
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  throw_bad_argument("Decoder", "activation", "silu or gelu_tanh", name);
}

template <class Kind>
py::class_<Kind, Linear, std::shared_ptr<Kind>> add_linear(py::module_& module, const char* name) {
  return {module, name};
}

void add_linears(py::module_& module) {
  py::class_<Linear, std::shared_ptr<Linear>>(module, "Linear");
  add_linear<PackedLinear>(module, "PackedLinear")
      .def(py::init<Tensor, std::int64_t, std::optional<Tensor>>(), py::kw_only(), "weight"_a,
           "out_features"_a, "bias"_a);
  add_linear<QuantizedLinear>(module, "QuantizedLinear")
      .def(py::init([](Tensor weight, std::int64_t out_features, std::optional<Tensor> bias,
                       const std::string& dtype) {
             return std::make_shared<QuantizedLinear>(weight, out_features, bias,
                                                      dtype_of_rows("QuantizedLinear", dtype));
           }),
           py::kw_only(), "weight"_a, "out_features"_a, "bias"_a, "dtype"_a);
  add_linear<SideBySide>(module, "SideBySide")
      .def(py::init([](const std::vector<AnyLinear>& parts) {
             return std::make_shared<SideBySide>(std::vector<Product>(parts.begin(), parts.end()));
           }),
           "parts"_a);
}

void add_layer(py::module_& module) {
  py::class_<NormTensors>(module, "RmsNorm")
      .def(py::init<Tensor, double, double>(), py::kw_only(), "weight"_a, "eps"_a, "offset"_a);
  py::class_<RopeTensors>(module, "Rope").def(py::init<Tensor, Tensor>(), "cos"_a, "sin"_a);
  py::class_<LayerTensors>(module, "DecoderLayer")
      .def(py::init([](NormTensors attention_norm, NormTensors mlp_norm,
                       MaybeNorm attention_post_norm, MaybeNorm mlp_post_norm, MaybeNorm q_norm,
                       MaybeNorm k_norm, AnyLinear qkv, AnyLinear o, AnyLinear gate_up,
                       AnyLinear down, std::optional<RopeTensors> rope, double scale,
                       double softcap, std::int64_t window, Tensor k_cache, Tensor v_cache) {
             return LayerTensors{attention_norm,
                                 mlp_norm,
                                 attention_post_norm,
                                 mlp_post_norm,
                                 q_norm,
                                 k_norm,
                                 qkv,
                                 o,
                                 gate_up,
                                 down,
                                 rope,
                                 scale,
                                 softcap,
                                 window,
                                 k_cache,
                                 v_cache};
           }),
           py::kw_only(), "attention_norm"_a, "mlp_norm"_a, "attention_post_norm"_a,
           "mlp_post_norm"_a, "q_norm"_a, "k_norm"_a, "qkv"_a, "o"_a, "gate_up"_a, "down"_a,
           "rope"_a, "scale"_a, "softcap"_a, "window"_a, "k_cache"_a, "v_cache"_a);
}

void run(TensorDecoder& decoder, const Tensor& tokens, const Tensor& position_ids,
         const Tensor& row_indptr, const Tensor& context_lens, const Tensor& start,
         const Tensor& n_nodes, const Tensor& block_table, const Tensor& parents,
         const Tensor& logits_rows, const Tensor& ancestor_mask, const Tensor& depth,
         const Tensor& logits, const std::optional<Tensor>& features) {
  decoder.run({tokens, position_ids, row_indptr, context_lens, start, n_nodes, block_table, parents,
               logits_rows, ancestor_mask, depth, logits, features});
}

}  // namespace

void add_forward(py::module_& module) {
  add_linears(module);
  add_layer(module);
  py::class_<TensorDecoder>(module, "Decoder")
      .def(py::init([](Tensor embedding, double embedding_scale, std::vector<LayerTensors> layers,
                       NormTensors norm, AnyLinear head, double softcap,
                       const std::string& activation) {
             return std::make_unique<TensorDecoder>(DecoderTensors{embedding, embedding_scale,
                                                                   layers, norm, head, softcap,
                                                                   activation_of(activation)});
           }),
           py::kw_only(), "embedding"_a, "embedding_scale"_a, "layers"_a, "norm"_a, "head"_a,
           "softcap"_a, "activation"_a)
      .def("run", &run, "tokens"_a, "position_ids"_a, "row_indptr"_a, "context_lens"_a, "start"_a,
           "n_nodes"_a, "block_table"_a, "parents"_a, "logits_rows"_a, "ancestor_mask"_a, "depth"_a,
           "logits"_a, "features"_a, py::call_guard<py::gil_scoped_release>());
}

}  // namespace specbranch
