#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/cpu/kernels.h"
#include "kv_cache/launch.h"
#include "kv_cache/params.h"
#include "torch_ops/append_kv.h"
#include "torch_ops/cuda_stream.h"
#include "torch_ops/paged_kv.h"
#include "torch_ops/ragged_rows.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

void require_append_values(const OpCheck& op, const AppendKvParams& p) {
  require_row_indptr(op, p.row_indptr, p.batch_size, p.num_rows);
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t rows = p.row_indptr[b + 1] - p.row_indptr[b];
    if (rows == 0) continue;
    require_in_range(op, "start", p.start[b], 0, op.size("M") * op.size("S"), b);
    require_pages(op, p.block_table, b, p.start[b], p.start[b] + rows);
  }
}

AppendKvParams check_append_kv(OpCheck& op, DTypes dtypes, const AppendKvTensors& tensors) {
  const TensorArg k = op.tensor("k", tensors.k, dtypes, {"T", "Hkv", "D"});
  const TensorArg v = op.tensor("v", tensors.v, {k.scalar_type()}, {"T", "Hkv", "D"});
  const TensorArg k_cache =
      op.output("k_cache", tensors.k_cache, {k.scalar_type()}, {"P", "S", "Hkv", "D"});
  const TensorArg v_cache =
      op.output("v_cache", tensors.v_cache, {k.scalar_type()}, {"P", "S", "Hkv", "D"});
  const TensorArg table = op.tensor("block_table", tensors.block_table, {kInt32}, {"B", "M"});
  const TensorArg start = op.tensor("start", tensors.start, {kInt32}, {"B"});
  const std::int32_t* row_indptr = check_row_indptr(op, tensors.row_indptr);
  return {
      .k = k.data(),
      .v = v.data(),
      .k_cache = k_cache.data(),
      .v_cache = v_cache.data(),
      .k_strides = row_strides(k),
      .v_strides = row_strides(v),
      .k_cache_strides = kv_strides(k_cache),
      .v_cache_strides = kv_strides(v_cache),
      .block_table = block_table(table, op),
      .start = start.data<const std::int32_t>(),
      .row_indptr = row_indptr,
      .batch_size = op.size("B"),
      .num_rows = op.size("T"),
      .num_kv_heads = op.size("Hkv"),
      .head_dim = op.size("D"),
      .element_size = static_cast<std::int64_t>(size_of(k.dtype())),
  };
}

namespace {

void append_kv(const Tensor& k, const Tensor& v, const Tensor& k_cache, const Tensor& v_cache,
               const Tensor& block_table, const Tensor& start, const Tensor& row_indptr) {
  OpCheck op("append_kv_");
  const AppendKvParams params =
      check_append_kv(op, kFloating, {k, v, k_cache, v_cache, block_table, start, row_indptr});
  if (k.is_cpu()) {
    require_append_values(op, params);
    cpu_kernels().append_kv(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(k);
  launch_append_kv(params, static_cast<CudaStream>(launch.stream()));
#endif
}

bool same_layout(const Tensor& a, const Tensor& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end());
  };
  return a.scalar_type() == b.scalar_type() && a.device() == b.device() &&
         equal(a.sizes(), b.sizes()) && equal(a.strides(), b.strides());
}

/// The caches of all layers, which are laid out as the first one is.
TensorArg check_layers(OpCheck& op, std::string_view argument, const std::vector<Tensor>& caches,
                       DTypes dtypes, void** pointers) {
  const TensorArg layout = op.output(argument, caches.front(), dtypes, {"P", "S", "Hkv", "D"});
  for (std::size_t layer = 0; layer < caches.size(); ++layer) {
    if (!same_layout(caches[layer], caches.front())) {
      op.tensor(argument, caches[layer], {layout.scalar_type()}, {"P", "S", "Hkv", "D"});
      op.fail(argument, "the strides of layer 0 in all layers",
              "others in layer " + std::to_string(layer));
    }
    pointers[layer] = caches[layer].mutable_data_ptr();
  }
  return layout;
}

void check_keep(const OpCheck& op, const CompactKvParams& p) {
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t capacity = op.size("M") * op.size("S");
    require_in_range(op, "keep_lens", p.keep_lens[b], 0, p.max_keep, b);
    require_in_range(op, "context_lens", p.context_lens[b], 0, capacity, b);
    const std::int32_t* keep = p.keep + b * p.keep_stride;
    std::int64_t last = -1;
    for (std::int64_t i = 0; i < p.keep_lens[b]; ++i) {
      if (keep[i] <= last) {
        op.fail(
            "keep", "strictly increasing nodes",
            std::to_string(keep[i]) + " at [" + std::to_string(b) + ", " + std::to_string(i) + "]");
      }
      last = keep[i];
    }
    require_pages(op, p.block_table, b, p.context_lens[b], p.context_lens[b] + last + 1);
  }
}

void compact_kv(const std::vector<Tensor>& k_caches, const std::vector<Tensor>& v_caches,
                const Tensor& block_table_, const Tensor& context_lens_, const Tensor& keep_,
                const Tensor& keep_lens_) {
  OpCheck op("compact_kv_");
  const auto num_layers = static_cast<std::int64_t>(k_caches.size());
  op.require(0 < num_layers && num_layers <= kMaxLayers, "k_caches",
             "1 to " + std::to_string(kMaxLayers) + " layers", num_layers);
  op.require(v_caches.size() == k_caches.size(), "v_caches",
             "as many layers as k_caches, " + std::to_string(num_layers), v_caches.size());
  CompactKvParams params;
  const TensorArg k_layout = check_layers(op, "k_caches", k_caches, kFloating, params.k_caches);
  const TensorArg v_layout =
      check_layers(op, "v_caches", v_caches, {k_layout.scalar_type()}, params.v_caches);
  const TensorArg table = op.tensor("block_table", block_table_, {kInt32}, {"B", "M"});
  const TensorArg context_lens = op.tensor("context_lens", context_lens_, {kInt32}, {"B"});
  const TensorArg keep = op.tensor("keep", keep_, {kInt32}, {"B", "J"});
  const TensorArg keep_lens = op.tensor("keep_lens", keep_lens_, {kInt32}, {"B"});
  params.k_strides = kv_strides(k_layout);
  params.v_strides = kv_strides(v_layout);
  params.block_table = block_table(table, op);
  params.context_lens = context_lens.data<const std::int32_t>();
  params.keep = keep.data<const std::int32_t>();
  params.keep_lens = keep_lens.data<const std::int32_t>();
  params.keep_stride = keep.stride(0);
  params.num_layers = num_layers;
  params.batch_size = op.size("B");
  params.max_keep = op.size("J");
  params.num_kv_heads = op.size("Hkv");
  params.head_dim = op.size("D");
  params.element_size = static_cast<std::int64_t>(size_of(k_layout.dtype()));
  if (k_caches.front().is_cpu()) {
    check_keep(op, params);
    cpu_kernels().compact_kv(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  require_grid(op, "keep", "B", params.batch_size);
  const CudaLaunch launch(k_caches.front());
  launch_compact_kv(params, static_cast<CudaStream>(launch.stream()));
#endif
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("append_kv_", TORCH_BOX(&specbranch::append_kv));
  library.impl("compact_kv_", TORCH_BOX(&specbranch::compact_kv));
}

#if defined(SPECBRANCH_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("append_kv_", TORCH_BOX(&specbranch::append_kv));
  library.impl("compact_kv_", TORCH_BOX(&specbranch::compact_kv));
}
#endif
