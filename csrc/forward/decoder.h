#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/params.h"
#include "common/dtype.h"
#include "forward/linear.h"
#include "forward/params.h"
#include "kv_cache/layout.h"
#include "linear/params.h"

namespace specbranch {

/// What all layers of a decoder share.
struct DecoderShape {
  DType dtype;
  std::int64_t hidden;
  std::int64_t num_qo_heads;
  std::int64_t num_kv_heads;
  std::int64_t head_dim;
  std::int64_t intermediate;
  Activation activation;
  KvStrides k_strides;
  KvStrides v_strides;

  std::int64_t q_width() const { return num_qo_heads * head_dim; }
  std::int64_t kv_width() const { return num_kv_heads * head_dim; }
  std::int64_t qkv_width() const { return q_width() + 2 * kv_width(); }
};

using Product = std::shared_ptr<const Linear>;

/// One layer. A norm without a weight is none; only those of inputs have to be there.
struct DecoderLayer {
  RmsNorm attention_norm;       // of the attention's input
  RmsNorm attention_post_norm;  // of its output
  RmsNorm mlp_norm;
  RmsNorm mlp_post_norm;
  RmsNorm q_norm;  // of each head
  RmsNorm k_norm;
  Product qkv;  // queries, keys, values side by side
  Product o;
  Product gate_up;  // gates, then what they gate
  Product down;
  Rope rope;
  float scale;
  float softcap;        // of attention's scores; 0: none
  std::int64_t window;  // 0: none
  void* k_cache;
  void* v_cache;
};

struct DecoderWeights {
  DType embedding_dtype;
  const void* embedding;  // [vocabulary, hidden], or null:
  QuantizedWeight quantized_embedding;
  float embedding_scale;
  std::vector<DecoderLayer> layers{};
  RmsNorm norm;
  Product head;
  float softcap;  // of logits; 0: none
};

/// New nodes of draft blocks, T rows of B requests, and where their results go. See the ops
/// `tree_mask`, `append_kv_` and `branch_attention` for what stands in each.
struct ForwardRows {
  const std::int32_t* tokens;        // [T]
  const std::int32_t* position_ids;  // [T]
  const std::int32_t* row_indptr;    // [B + 1]
  const std::int32_t* context_lens;  // [B]
  const std::int32_t* start;         // [B]
  const std::int32_t* n_nodes;       // [B]
  const std::int32_t* parents;       // [B, N]
  const std::int32_t* logits_rows;   // [k]
  BlockTable block_table;            // [B, M]
  std::int64_t parents_stride;
  std::int64_t batch_size;
  std::int64_t num_rows;  // T
  std::int64_t num_logits_rows;
  std::int64_t max_positions;  // M * S

  std::int32_t* ancestor_mask;  // [T, W], written
  std::int32_t* depth;          // [T], written
  std::int64_t num_words;       // W
  void* logits;                 // [k, vocabulary], written
  void* features;               // [T, feature_layers * hidden], written
  std::int64_t feature_layers;  // of the last ones, the earliest first
};

/// Runs a decoder of the common skeleton on a CPU. It has scratch memory of its own, so it runs one
/// forward at a time; several decoders may share weights.
class Decoder {
 public:
  /// Throws std::invalid_argument for weights that do not fit the shape.
  Decoder(const DecoderShape& shape, DecoderWeights weights);

  void run(const ForwardRows& rows);

  const DecoderShape& shape() const { return shape_; }
  const DecoderWeights& weights() const { return weights_; }

 private:
  /// Memory that grows when it has to.
  class Buffer {
   public:
    void* get(std::size_t bytes);

   private:
    struct Free {
      void operator()(std::byte* memory) const;
    };
    std::unique_ptr<std::byte, Free> memory_;
    std::size_t size_ = 0;
  };

  void reserve();
  void embed();
  void run_layer(const DecoderLayer& layer);
  void attend(const DecoderLayer& layer);
  void rotate_and_append(const DecoderLayer& layer);
  BranchAttentionParams attention_params(const DecoderLayer& layer) const;
  /// residual += x, if there is one; x = norm of residual.
  void add_norm(const RmsNorm& norm, const void* added);
  void post_norm(const RmsNorm& norm);
  void keep_feature(std::int64_t layer);
  void head();

  void* column_of_qkv(std::int64_t column) const;
  std::size_t bytes(std::int64_t elements) const { return elements * size_of(shape_.dtype); }

  DecoderShape shape_;
  DecoderWeights weights_;

  // Of the forward that runs.
  const ForwardRows* rows_ = nullptr;
  void* residual_ = nullptr;   // [T, hidden]
  void* normed_ = nullptr;     // [T, hidden], what a product reads
  void* result_ = nullptr;     // [T, hidden], what a part of a layer adds to the residual
  void* qkv_ = nullptr;        // [T, qkv_width]
  void* attention_ = nullptr;  // [T, q_width]
  void* gate_up_ = nullptr;    // [T, 2 * intermediate]
  void* activated_ = nullptr;  // [T, intermediate]
  float* lse_ = nullptr;       // [T, num_qo_heads]
  float* workspace_ = nullptr;
  Buffer buffers_[9];
};

}  // namespace specbranch
