#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "forward/decoder.h"
#include "torch_ops/tensor_arg.h"

// A decoder from a model's tensors, and its forwards over tensors.
namespace specbranch {

struct NormTensors {
  Tensor weight;  // [width]
  double eps;
  double offset;
};

/// fp32 [positions, rotated dimensions / 2].
struct RopeTensors {
  Tensor cos;
  Tensor sin;
};

struct LayerTensors {
  NormTensors attention_norm;
  NormTensors mlp_norm;
  std::optional<NormTensors> attention_post_norm;
  std::optional<NormTensors> mlp_post_norm;
  std::optional<NormTensors> q_norm;
  std::optional<NormTensors> k_norm;
  Product qkv;
  Product o;
  Product gate_up;
  Product down;
  std::optional<RopeTensors> rope;
  double scale;
  double softcap;
  std::int64_t window;
  Tensor k_cache;  // [P, S, Hkv, D], all alike in all layers
  Tensor v_cache;
};

struct DecoderTensors {
  Tensor embedding;  // [vocabulary, H], or in few bits as `quantized_rows` reads it
  double embedding_scale;
  std::vector<LayerTensors> layers;
  NormTensors norm;
  Product head;
  double softcap;
  Activation activation;
};

/// What `run` reads, in the order of specbranch.models.block_forward.BlockInputs, and writes.
struct ForwardTensors {
  Tensor tokens;                   // int32 [1, T]
  Tensor position_ids;             // int32 [1, T]
  Tensor row_indptr;               // int32 [B + 1]
  Tensor context_lens;             // int32 [B]
  Tensor start;                    // int32 [B]
  Tensor n_nodes;                  // int32 [B]
  Tensor block_table;              // int32 [B, M]
  Tensor parents;                  // int32 [B, N]
  Tensor logits_rows;              // int32 [k]
  Tensor ancestor_mask;            // int32 [T, W], written
  Tensor depth;                    // int32 [T], written
  Tensor logits;                   // [k, vocabulary], written
  std::optional<Tensor> features;  // [T, feature layers * H], written
};

/// Keeps the tensors alive. Everything that does not fit is a std::invalid_argument.
class TensorDecoder {
 public:
  explicit TensorDecoder(DecoderTensors tensors);

  void run(const ForwardTensors& tensors);

 private:
  DecoderTensors tensors_;
  std::int64_t num_pages_ = 0;
  std::int64_t page_size_ = 0;
  std::int64_t vocab_size_ = 0;
  std::int64_t num_positions_ = 0;  // that can be rotated
  Decoder decoder_;
};

}  // namespace specbranch
