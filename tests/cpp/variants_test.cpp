// Every compiled variant of a kernel that this processor runs gives what the first one gives.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "attention/cpu/plan.h"
#include "attention/params.h"
#include "common/cpu/kernels.h"
#include "sampling/params.h"
#include "test.h"

namespace specbranch {
namespace {

using SPECBRANCH_CPU_NS::branch_attention_workspace;

std::vector<CpuVariant> runnable_variants() {
  std::vector<CpuVariant> variants;
  for (const CpuVariant& variant : compiled_cpu_variants()) {
    if (variant.capability <= machine_cpu_capability()) variants.push_back(variant);
  }
  return variants;
}

std::vector<float> random_floats(std::size_t size, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  std::ranges::generate(values, [&] { return normal(engine); });
  return values;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

// One request, a root with a fork below it, two query heads for each of two KV heads.
struct AttentionCase {
  static constexpr std::int64_t kRows = 4, kHeads = 4, kKvHeads = 2, kDim = 24;
  static constexpr std::int64_t kContext = 150, kPageSize = 16, kPages = 10;

  std::vector<std::int32_t> parents = {-1, 0, 0, 1};
  std::vector<std::int32_t> n_nodes = {kRows};
  std::vector<std::int32_t> row_indptr = {0, kRows};
  std::vector<std::int32_t> context_lens = {kContext};
  std::vector<std::int32_t> pages = {9, 3, 0, 1, 2, 8, 7, 6, 5, 4};
  std::vector<float> q = random_floats(kRows * kHeads * kDim, 1);
  std::vector<float> k = random_floats(kPages * kPageSize * kKvHeads * kDim, 2);
  std::vector<float> v = random_floats(kPages * kPageSize * kKvHeads * kDim, 3);

  std::vector<std::int32_t> mask(const CpuKernels& kernels) const {
    std::vector<std::int32_t> ancestors(kRows), depth(kRows);
    kernels.tree_mask({.parents = parents.data(),
                       .n_nodes = n_nodes.data(),
                       .row_indptr = row_indptr.data(),
                       .ancestor_mask = ancestors.data(),
                       .depth = depth.data(),
                       .parents_stride = kRows,
                       .mask_stride = 1,
                       .batch_size = 1,
                       .num_rows = kRows,
                       .num_words = 1});
    return ancestors;
  }

  // The output rows, then their log-sum-exps.
  std::vector<float> attend(const CpuKernels& kernels) const {
    const std::vector<std::int32_t> ancestors = mask(kernels);
    std::vector<float> result(kRows * kHeads * (kDim + 1));
    BranchAttentionParams params{};
    params.dtype = DType::kFloat32;
    params.q = q.data();
    params.k_cache = k.data();
    params.v_cache = v.data();
    params.q_strides = {kHeads * kDim, kDim};
    params.k_strides = {kPageSize * kKvHeads * kDim, kKvHeads * kDim, kDim};
    params.v_strides = params.k_strides;
    params.block_table = {pages.data(), kPages, kPageSize};
    params.context_lens = context_lens.data();
    params.n_nodes = n_nodes.data();
    params.row_indptr = row_indptr.data();
    params.ancestor_mask = ancestors.data();
    params.mask_stride = 1;
    params.batch_size = 1;
    params.num_rows = kRows;
    params.num_qo_heads = kHeads;
    params.num_kv_heads = kKvHeads;
    params.head_dim = kDim;
    params.max_positions = kPages * kPageSize;
    params.scale = 0.25f;
    params.out = result.data();
    params.lse = result.data() + kRows * kHeads * kDim;
    params.out_strides = params.q_strides;
    params.lse_strides = {kHeads, 1};
    std::vector<float> workspace(branch_attention_workspace(params));
    params.workspace = workspace.data();
    kernels.branch_attention(params);
    return result;
  }
};

TEST(variants, tree_masks_are_equal) {
  const AttentionCase attention;
  for (const CpuVariant& variant : runnable_variants()) {
    CHECK((attention.mask(*variant.kernels) == std::vector<std::int32_t>{1, 3, 5, 11}));
  }
}

TEST(variants, attention_agrees_to_rounding) {
  const AttentionCase attention;
  const auto variants = runnable_variants();
  const auto expected = attention.attend(*variants.front().kernels);
  for (const CpuVariant& variant : variants) {
    CHECK(largest_difference(attention.attend(*variant.kernels), expected) < 1e-5f);
  }
}

TEST(variants, samples_are_equal) {
  constexpr std::int64_t kRows = 64, kVocab = 1003;
  const std::vector<float> logits = random_floats(kRows * kVocab, 4);
  const std::vector<float> temperature(kRows, 0.8f), top_p(kRows, 0.95f), min_p(kRows, 0.01f);
  const std::vector<std::int32_t> top_k(kRows, 200);
  const std::vector<std::int64_t> seed(kRows, 1234567890123);
  std::vector<std::int32_t> position(kRows);
  for (std::int32_t row = 0; row < kRows; ++row) position[row] = row;

  const auto sample = [&](const CpuKernels& kernels) {
    std::vector<std::int32_t> ids(kRows);
    kernels.sample({.logits = {logits.data(), DType::kFloat32, kVocab, kRows, kVocab},
                    .filters = {temperature.data(), top_k.data(), top_p.data(), min_p.data()},
                    .seed = seed.data(),
                    .position = position.data(),
                    .ids = ids.data()});
    return ids;
  };
  const auto variants = runnable_variants();
  const std::vector<std::int32_t> expected = sample(*variants.front().kernels);
  CHECK(std::ranges::adjacent_find(expected, std::not_equal_to<>()) != expected.end());
  for (const CpuVariant& variant : variants) CHECK(sample(*variant.kernels) == expected);
}

}  // namespace
}  // namespace specbranch
