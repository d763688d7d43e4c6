#include "forward/decoder.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "attention/cpu/plan.h"
#include "common/check.h"
#include "common/cpu/kernels.h"
#include "common/cpu/lent_cores.h"
#include "kv_cache/params.h"

namespace specbranch {
namespace {

using SPECBRANCH_CPU_NS::branch_attention_workspace;

void require_product(const Product& product, const char* name, DType dtype, std::int64_t inputs,
                     std::int64_t outputs) {
  if (product->dtype() != dtype) {
    throw_bad_argument("Decoder", name, "the dtype of the decoder", "another");
  }
  if (product->in_features() != inputs || product->out_features() != outputs) {
    throw_bad_argument(
        "Decoder", name,
        std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs",
        std::to_string(product->in_features()) + " and " + std::to_string(product->out_features()));
  }
}

}  // namespace

Decoder::Decoder(const DecoderShape& shape, DecoderWeights weights)
    : shape_(shape), weights_(std::move(weights)) {
  for (const DecoderLayer& layer : weights_.layers) {
    require_product(layer.qkv, "qkv", shape.dtype, shape.hidden, shape.qkv_width());
    require_product(layer.o, "o", shape.dtype, shape.q_width(), shape.hidden);
    require_product(layer.gate_up, "gate_up", shape.dtype, shape.hidden, 2 * shape.intermediate);
    require_product(layer.down, "down", shape.dtype, shape.intermediate, shape.hidden);
  }
  require_product(weights_.head, "head", shape.dtype, shape.hidden, weights_.head->out_features());
}

void Decoder::run(const ForwardRows& rows) {
  const AtWork at_work;
  rows_ = &rows;
  reserve();
  cpu_kernels().tree_mask({
      .parents = rows.parents,
      .n_nodes = rows.n_nodes,
      .row_indptr = rows.row_indptr,
      .ancestor_mask = rows.ancestor_mask,
      .depth = rows.depth,
      .parents_stride = rows.parents_stride,
      .mask_stride = rows.num_words,
      .batch_size = rows.batch_size,
      .num_rows = rows.num_rows,
      .num_words = rows.num_words,
  });
  embed();
  const void* added = nullptr;
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    add_norm(weights_.layers[i].attention_norm, added);
    keep_feature(static_cast<std::int64_t>(i) - 1);
    run_layer(weights_.layers[i]);
    added = result_;
  }
  add_norm(weights_.norm, added);
  keep_feature(static_cast<std::int64_t>(weights_.layers.size()) - 1);
  head();
}

void Decoder::run_layer(const DecoderLayer& layer) {
  const std::int64_t num_rows = rows_->num_rows;
  layer.qkv->multiply(normed_, num_rows, {qkv_, shape_.qkv_width()});
  attend(layer);
  layer.o->multiply(attention_, num_rows, {result_, shape_.hidden});
  post_norm(layer.attention_post_norm);
  add_norm(layer.mlp_norm, result_);
  layer.gate_up->multiply(normed_, num_rows, {gate_up_, 2 * shape_.intermediate});
  cpu_kernels().gated_activation({shape_.dtype, shape_.activation, gate_up_, activated_,
                                  2 * shape_.intermediate, shape_.intermediate, num_rows,
                                  shape_.intermediate});
  layer.down->multiply(activated_, num_rows, {result_, shape_.hidden});
  post_norm(layer.mlp_post_norm);
}

void Decoder::attend(const DecoderLayer& layer) {
  rotate_and_append(layer);
  cpu_kernels().branch_attention(attention_params(layer));
}

void Decoder::rotate_and_append(const DecoderLayer& layer) {
  const RowStrides strides{shape_.qkv_width(), shape_.head_dim};
  const AppendKvParams append{
      .k = column_of_qkv(shape_.q_width()),
      .v = column_of_qkv(shape_.q_width() + shape_.kv_width()),
      .k_cache = layer.k_cache,
      .v_cache = layer.v_cache,
      .k_strides = strides,
      .v_strides = strides,
      .k_cache_strides = shape_.k_strides,
      .v_cache_strides = shape_.v_strides,
      .block_table = rows_->block_table,
      .start = rows_->start,
      .row_indptr = rows_->row_indptr,
      .batch_size = rows_->batch_size,
      .num_rows = rows_->num_rows,
      .num_kv_heads = shape_.num_kv_heads,
      .head_dim = shape_.head_dim,
      .element_size = static_cast<std::int64_t>(size_of(shape_.dtype)),
  };
  cpu_kernels().rope_append_kv({shape_.dtype, qkv_, strides, shape_.num_qo_heads, layer.q_norm,
                                layer.k_norm, layer.rope, rows_->position_ids, append});
}

BranchAttentionParams Decoder::attention_params(const DecoderLayer& layer) const {
  return {
      .dtype = shape_.dtype,
      .q = qkv_,
      .k_cache = layer.k_cache,
      .v_cache = layer.v_cache,
      .q_strides = {shape_.qkv_width(), shape_.head_dim},
      .k_strides = shape_.k_strides,
      .v_strides = shape_.v_strides,
      .block_table = rows_->block_table,
      .context_lens = rows_->context_lens,
      .n_nodes = rows_->n_nodes,
      .row_indptr = rows_->row_indptr,
      .ancestor_mask = rows_->ancestor_mask,
      .mask_stride = rows_->num_words,
      .batch_size = rows_->batch_size,
      .num_rows = rows_->num_rows,
      .num_qo_heads = shape_.num_qo_heads,
      .num_kv_heads = shape_.num_kv_heads,
      .head_dim = shape_.head_dim,
      .max_positions = rows_->max_positions,
      .scale = layer.scale,
      .softcap = layer.softcap,
      .window = layer.window,
      .out = attention_,
      .lse = lse_,
      .out_strides = {shape_.q_width(), shape_.head_dim},
      .lse_strides = {shape_.num_qo_heads, 1},
      .workspace = workspace_,
  };
}

void Decoder::embed() {
  if (weights_.embedding == nullptr) {
    cpu_kernels().quantized_rows({weights_.quantized_embedding, rows_->tokens, residual_,
                                  shape_.dtype, shape_.hidden, rows_->num_rows,
                                  weights_.embedding_scale});
    return;
  }
  cpu_kernels().gather_rows({weights_.embedding_dtype, shape_.dtype, weights_.embedding,
                             rows_->tokens, residual_, rows_->num_rows, shape_.hidden,
                             weights_.embedding_scale});
}

void Decoder::add_norm(const RmsNorm& norm, const void* added) {
  cpu_kernels().add_rms_norm({shape_.dtype, added, residual_, normed_, shape_.hidden, shape_.hidden,
                              shape_.hidden, norm, rows_->num_rows, shape_.hidden});
}

void Decoder::post_norm(const RmsNorm& norm) {
  if (norm.weight == nullptr) return;
  cpu_kernels().add_rms_norm({shape_.dtype, nullptr, result_, result_, shape_.hidden, shape_.hidden,
                              shape_.hidden, norm, rows_->num_rows, shape_.hidden});
}

void Decoder::keep_feature(std::int64_t layer) {
  const std::int64_t first =
      static_cast<std::int64_t>(weights_.layers.size()) - rows_->feature_layers;
  if (layer < first) return;
  const std::size_t width = bytes(shape_.hidden);
  char* column = static_cast<char*>(rows_->features) + (layer - first) * width;
  for (std::int64_t row = 0; row < rows_->num_rows; ++row) {
    std::memcpy(column + row * rows_->feature_layers * width,
                static_cast<const char*>(residual_) + row * width, width);
  }
}

void Decoder::head() {
  const std::int64_t num_rows = rows_->num_logits_rows;
  const std::int64_t vocabulary = weights_.head->out_features();
  cpu_kernels().gather_rows({shape_.dtype, shape_.dtype, normed_, rows_->logits_rows, result_,
                             num_rows, shape_.hidden, 1.0f});
  weights_.head->multiply(result_, num_rows, {rows_->logits, vocabulary});
  if (weights_.softcap > 0) {
    cpu_kernels().softcap({shape_.dtype, rows_->logits, num_rows * vocabulary, weights_.softcap});
  }
}

void* Decoder::column_of_qkv(std::int64_t column) const {
  return static_cast<char*>(qkv_) + bytes(column);
}

void Decoder::reserve() {
  const std::int64_t rows = rows_->num_rows;
  residual_ = buffers_[0].get(bytes(rows * shape_.hidden));
  normed_ = buffers_[1].get(bytes(rows * shape_.hidden));
  result_ = buffers_[2].get(bytes(rows * shape_.hidden));
  qkv_ = buffers_[3].get(bytes(rows * shape_.qkv_width()));
  attention_ = buffers_[4].get(bytes(rows * shape_.q_width()));
  gate_up_ = buffers_[5].get(bytes(rows * 2 * shape_.intermediate));
  activated_ = buffers_[6].get(bytes(rows * shape_.intermediate));
  lse_ = static_cast<float*>(buffers_[7].get(rows * shape_.num_qo_heads * sizeof(float)));
  const std::int64_t floats = branch_attention_workspace(attention_params(weights_.layers[0]));
  workspace_ = static_cast<float*>(buffers_[8].get(floats * sizeof(float)));
}

void* Decoder::Buffer::get(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  if (bytes > size_) {
    size_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, size_)));
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  return memory_.get();
}

void Decoder::Buffer::Free::operator()(std::byte* memory) const { std::free(memory); }

}  // namespace specbranch
