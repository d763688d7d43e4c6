#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/host_device.h"

namespace specbranch {

/// Rows of logits [R, V], V contiguous.
struct LogitsRows {
  const void* data;
  DType dtype;
  std::int64_t stride;  // of a row, in elements
  std::int64_t num_rows;
  std::int64_t vocab_size;
};

/// What turns logits into a law: temperature, then top_k, top_p on the renormalised rest, min_p.
/// top_k 0, top_p 1 and min_p 0 are off; temperature 0 is a one-hot argmax.
struct Filter {
  float temperature;
  std::int32_t top_k;
  float top_p;
  float min_p;
};

/// A filter for each row [R] or request [B].
struct Filters {
  const float* temperature;
  const std::int32_t* top_k;
  const float* top_p;
  const float* min_p;

  SPECBRANCH_HOST_DEVICE_INLINE Filter operator[](std::int64_t row) const {
    return {temperature[row], top_k[row], top_p[row], min_p[row]};
  }
};

/// Which tokens of each row have any mass [R, ceil(V / 32)]: those whose bit is set, token % 32 of
/// word token / 32. What the logits of the others are does not matter.
struct AllowedTokens {
  const std::int32_t* words;  // null: all
  std::int64_t stride;

  SPECBRANCH_HOST_DEVICE_INLINE const std::int32_t* row(std::int64_t index) const {
    return words == nullptr ? nullptr : words + index * stride;
  }
};

/// sampling_probs: the law of each row. A row without one (NaN, no finite maximum) becomes NaN.
struct SamplingProbsParams {
  LogitsRows logits;
  Filters filters;
  float* probs;  // [R, V]
  std::int64_t probs_stride;
};

/// sample: the token of highest perturbed score of each row, -1 for a row without a law.
struct SampleParams {
  LogitsRows logits;
  Filters filters;
  const std::int64_t* seed;      // [R]
  const std::int32_t* position;  // [R]
  AllowedTokens allowed;
  std::int32_t* ids;  // [R]
};

/// How a draft's guesses are tied to the target's choice.
enum class Coupling : std::uint8_t {
  kGumbel,     // they share the target's noise; tokens outside the filter lose score
  kRejection,  // they are draws from the filtered law
};

/// What a token outside the draft's own filter loses in score under the gumbel coupling, where it
/// may still be the target's choice.
inline constexpr float kSoftPenalty = 2.0f;

/// draft_topk: the k tokens of highest perturbed score of each row, best first.
struct DraftTopkParams {
  LogitsRows logits;
  Filters filters;
  const std::int64_t* seed;       // [R]
  const std::int32_t* position;   // [R]
  const std::int32_t* token_ids;  // [V] the token of each column, or null: the column itself
  std::int64_t k;
  Coupling coupling;
  std::int32_t* ids;  // [R, k]
  float* estimates;   // [R, k]
  float* max_prob;    // [R]
  float* entropy;     // [R]
  std::int64_t ids_stride;
  std::int64_t estimates_stride;
};

}  // namespace specbranch
