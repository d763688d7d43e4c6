#include "torch_ops/decoder.h"

#include <algorithm>
#include <climits>
#include <string>
#include <utility>

#include "torch_ops/paged_kv.h"
#include "torch_ops/quantized_weight.h"
#include "torch_ops/ragged_rows.h"

using namespace std::string_view_literals;

namespace specbranch {
namespace {

/// The checks of a decoder's tensors.
class Weights {
 public:
  explicit Weights(const DecoderTensors& tensors) : tensors_(tensors), op_("Decoder") {}

  DecoderShape shape() {
    op_.require(!tensors_.layers.empty(), "layers", "at least one", "none"sv);
    const LayerTensors& first = tensors_.layers[0];
    const TensorArg k = op_.tensor("k_cache", first.k_cache, kFloating, {"P", "S", "Hkv", "D"});
    const TensorArg v = op_.tensor("v_cache", first.v_cache, kFloating, {"P", "S", "Hkv", "D"});
    dtype_ = k.scalar_type();
    check_embedding();
    const std::int64_t head_dim = op_.size("D");
    const std::int64_t heads = first.o->in_features() / head_dim;
    op_.require(head_dim % 8 == 0 && head_dim <= kMaxHeadDim, "k_cache",
                "a head_dim D that is a multiple of 8 up to 256", head_dim);
    op_.require(heads % op_.size("Hkv") == 0, "o", "inputs of a multiple of the Hkv heads", heads);
    return {
        .dtype = k.dtype(),
        .hidden = op_.size("H"),
        .num_qo_heads = heads,
        .num_kv_heads = op_.size("Hkv"),
        .head_dim = head_dim,
        .intermediate = first.down->in_features(),
        .activation = tensors_.activation,
        .k_strides = kv_strides(k),
        .v_strides = kv_strides(v),
    };
  }

  DecoderWeights weights() {
    DecoderWeights weights{
        .embedding_dtype = embedding_ ? embedding_->dtype() : DType{},
        .embedding = embedding_ ? embedding_->data() : nullptr,
        .quantized_embedding = quantized_embedding_,
        .embedding_scale = static_cast<float>(tensors_.embedding_scale),
        .norm = norm("norm", tensors_.norm, "H"),
        .head = tensors_.head,
        .softcap = static_cast<float>(tensors_.softcap),
    };
    for (const LayerTensors& layer : tensors_.layers) weights.layers.push_back(this->layer(layer));
    return weights;
  }

  std::int64_t size(std::string_view name) const { return op_.size(name); }

 private:
  /// Binds V and H.
  void check_embedding() {
    if (tensors_.embedding.scalar_type() != kUInt8) {
      embedding_ = op_.tensor("embedding", tensors_.embedding, kFloating, {"V", "H"});
      return;
    }
    quantized_embedding_ = check_quantized_weight(op_, "embedding", tensors_.embedding);
    op_.bind("V", quantized_embedding_.out_features);
    op_.bind("H", quantized_embedding_.in_features);
  }

  DecoderLayer layer(const LayerTensors& layer) {
    return {
        .attention_norm = norm("attention_norm", layer.attention_norm, "H"),
        .attention_post_norm = norm("attention_post_norm", layer.attention_post_norm, "H"),
        .mlp_norm = norm("mlp_norm", layer.mlp_norm, "H"),
        .mlp_post_norm = norm("mlp_post_norm", layer.mlp_post_norm, "H"),
        .q_norm = norm("q_norm", layer.q_norm, "D"),
        .k_norm = norm("k_norm", layer.k_norm, "D"),
        .qkv = layer.qkv,
        .o = layer.o,
        .gate_up = layer.gate_up,
        .down = layer.down,
        .rope = rope(layer.rope),
        .scale = static_cast<float>(layer.scale),
        .softcap = static_cast<float>(layer.softcap),
        .window = std::min<std::int64_t>(layer.window, INT32_MAX),
        .k_cache = cache("k_cache", layer.k_cache, tensors_.layers[0].k_cache),
        .v_cache = cache("v_cache", layer.v_cache, tensors_.layers[0].v_cache),
    };
  }

  RmsNorm norm(std::string_view name, const std::optional<NormTensors>& norm,
               std::string_view width) {
    if (!norm) return {};
    const TensorArg weight = op_.tensor(name, norm->weight, {dtype_}, {width});
    return {weight.data(), static_cast<float>(norm->eps), static_cast<float>(norm->offset)};
  }

  Rope rope(const std::optional<RopeTensors>& rope) {
    if (!rope) return {};
    OpCheck op("Decoder");
    const TensorArg cos = op.output("cos", rope->cos, {kFloat32}, {"positions", "D/2"});
    const TensorArg sin = op.output("sin", rope->sin, {kFloat32}, {"positions", "D/2"});
    const std::int64_t half = op.size("D/2");
    op.require(2 * half <= op_.size("D"), "cos", "at most half of the head's columns", half);
    op.require(cos.stride(0) == half && sin.stride(0) == half, "cos, sin", "contiguous tensors",
               "others"sv);
    return {cos.data<const float>(), sin.data<const float>(), 2 * half};
  }

  void* cache(std::string_view name, const Tensor& cache, const Tensor& like) {
    const TensorArg checked = op_.output(name, cache, {dtype_}, {"P", "S", "Hkv", "D"});
    const auto strides = cache.strides(), wanted = like.strides();
    op_.require(std::equal(strides.begin(), strides.end(), wanted.begin()), name,
                "the strides of layer 0 in all layers", "others"sv);
    return checked.data();
  }

  const DecoderTensors& tensors_;
  OpCheck op_;
  ScalarType dtype_{};
  std::optional<TensorArg> embedding_;
  QuantizedWeight quantized_embedding_{};
};

Decoder checked(const DecoderTensors& tensors) {
  Weights weights(tensors);
  const DecoderShape shape = weights.shape();
  return {shape, weights.weights()};
}

/// Rows of the embedding.
std::int64_t vocab_size(const Tensor& embedding) {
  return embedding.size(0) * (embedding.scalar_type() == kUInt8 ? kTileOutputs : 1);
}

/// Positions that every layer which rotates can rotate.
std::int64_t rotated_positions(const DecoderTensors& tensors) {
  std::int64_t positions = INT32_MAX;
  for (const LayerTensors& layer : tensors.layers) {
    if (layer.rope) positions = std::min(positions, layer.rope->cos.size(0));
  }
  return positions;
}

void check_nodes(const OpCheck& op, const ForwardRows& rows, std::int64_t b) {
  require_in_range(op, "context_lens", rows.context_lens[b], 0, rows.max_positions, b);
  require_in_range(op, "n_nodes", rows.n_nodes[b], 1, op.size("N"), b);
  for (std::int64_t node = 0; node < rows.n_nodes[b]; ++node) {
    const std::int32_t parent = rows.parents[b * rows.parents_stride + node];
    require_in_range(op, "parents", parent, -1, node - 1, b);
  }
}

void check_requests(const OpCheck& op, const ForwardRows& rows) {
  require_row_indptr(op, rows.row_indptr, rows.batch_size, rows.num_rows);
  op.require(rows.row_indptr[rows.batch_size] == rows.num_rows, "row_indptr",
             "rows without padding", "padding"sv);
  for (std::int64_t b = 0; b < rows.batch_size; ++b) {
    const std::int64_t count = rows.row_indptr[b + 1] - rows.row_indptr[b];
    if (count == 0) continue;
    check_nodes(op, rows, b);
    require_nodes_of_rows(op, count, rows.n_nodes[b], b);
    require_in_range(op, "start", rows.start[b], 0, rows.max_positions, b);
    const std::int64_t end = rows.context_lens[b] + rows.n_nodes[b];
    require_pages(op, rows.block_table, b, 0, std::max<std::int64_t>(end, rows.start[b] + count));
  }
}

void require_below(const OpCheck& op, std::string_view name, const std::int32_t* values,
                   std::int64_t count, std::int64_t end) {
  for (std::int64_t i = 0; i < count; ++i) {
    require_entry(op, 0 <= values[i] && values[i] < end, name,
                  "values below " + std::to_string(end), values[i], i);
  }
}

}  // namespace

TensorDecoder::TensorDecoder(DecoderTensors tensors)
    : tensors_(std::move(tensors)), decoder_(checked(tensors_)) {
  num_pages_ = tensors_.layers[0].k_cache.size(0);
  page_size_ = tensors_.layers[0].k_cache.size(1);
  vocab_size_ = vocab_size(tensors_.embedding);
  num_positions_ = rotated_positions(tensors_);
}

void TensorDecoder::run(const ForwardTensors& t) {
  OpCheck op("Decoder.run");
  const ScalarType dtype = tensors_.layers[0].k_cache.scalar_type();
  op.bind("1", 1);
  op.bind("P", num_pages_);
  op.bind("S", page_size_);
  const auto ints = [&](std::string_view name, const Tensor& tensor, SizeNames sizes) {
    return op.tensor(name, tensor, {kInt32}, sizes);
  };
  ForwardRows rows{};
  rows.tokens = ints("tokens", t.tokens, {"1", "T"}).data<std::int32_t>();
  rows.position_ids = ints("position_ids", t.position_ids, {"1", "T"}).data<std::int32_t>();
  rows.context_lens = ints("context_lens", t.context_lens, {"B"}).data<std::int32_t>();
  rows.row_indptr = check_row_indptr(op, t.row_indptr);
  rows.start = ints("start", t.start, {"B"}).data<std::int32_t>();
  rows.n_nodes = ints("n_nodes", t.n_nodes, {"B"}).data<std::int32_t>();
  rows.block_table = block_table(ints("block_table", t.block_table, {"B", "M"}), op);
  const TensorArg parents = ints("parents", t.parents, {"B", "N"});
  rows.parents = parents.data<std::int32_t>();
  rows.parents_stride = parents.stride(0);
  rows.logits_rows = ints("logits_rows", t.logits_rows, {"k"}).data<std::int32_t>();
  const TensorArg mask = op.output("ancestor_mask", t.ancestor_mask, {kInt32}, {"T", "W"});
  rows.ancestor_mask = mask.data<std::int32_t>();
  rows.depth = op.output("depth", t.depth, {kInt32}, {"T"}).data<std::int32_t>();
  op.bind("vocabulary", decoder_.weights().head->out_features());
  rows.logits = op.output("logits", t.logits, {dtype}, {"k", "vocabulary"}).data();
  rows.batch_size = op.size("B");
  rows.num_rows = op.size("T");
  rows.num_logits_rows = op.size("k");
  rows.num_words = op.size("W");
  rows.max_positions = op.size("M") * page_size_;
  if (t.features) {
    rows.features = op.output("features", *t.features, {dtype}, {"T", "L*H"}).data();
    rows.feature_layers = op.size("L*H") / decoder_.shape().hidden;
    op.bind("L*H", rows.feature_layers * decoder_.shape().hidden);
  }
  check_requests(op, rows);
  require_below(op, "tokens", rows.tokens, rows.num_rows, vocab_size_);
  require_below(op, "position_ids", rows.position_ids, rows.num_rows, num_positions_);
  require_below(op, "logits_rows", rows.logits_rows, rows.num_logits_rows, rows.num_rows);
  decoder_.run(rows);
}

}  // namespace specbranch
