#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>

#include "attention/params.h"
#include "common/cpu/kernels.h"
#include "forward/launch.h"
#include "forward/params.h"
#include "torch_ops/append_kv.h"
#include "torch_ops/cuda_stream.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {
namespace {

using MaybeTensor = std::optional<Tensor>;

void run(const AddRmsNormParams& params, const Tensor& like) {
  if (like.is_cpu()) return cpu_kernels().add_rms_norm(params);
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(like);
  launch_add_rms_norm(params, static_cast<CudaStream>(launch.stream()));
#endif
}

void run(const GatedActivationParams& params, const Tensor& like) {
  if (like.is_cpu()) return cpu_kernels().gated_activation(params);
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(like);
  launch_gated_activation(params, static_cast<CudaStream>(launch.stream()));
#endif
}

RmsNorm norm_of(const TensorArg& weight, double eps, double offset) {
  return {weight.data(), static_cast<float>(eps), static_cast<float>(offset)};
}

void fused_add_rms_norm(const Tensor& x_, const Tensor& residual_, const Tensor& weight_,
                        double eps, double offset) {
  OpCheck op("fused_add_rms_norm");
  const TensorArg x = op.output("x", x_, kFloating, {"T", "H"});
  const TensorArg residual = op.output("residual", residual_, {x.scalar_type()}, {"T", "H"});
  const TensorArg weight = op.tensor("weight", weight_, {x.scalar_type()}, {"H"});
  run({.dtype = x.dtype(),
       .x = x.data(),
       .residual = residual.data(),
       .out = x.data(),
       .x_stride = x.stride(0),
       .residual_stride = residual.stride(0),
       .out_stride = x.stride(0),
       .norm = norm_of(weight, eps, offset),
       .num_rows = op.size("T"),
       .width = op.size("H")},
      x_);
}

void rms_norm_out(const Tensor& x_, const Tensor& weight_, double eps, double offset,
                  const Tensor& out_) {
  OpCheck op("rms_norm");
  const TensorArg x = op.tensor("x", x_, kFloating, {"T", "H"});
  const TensorArg weight = op.tensor("weight", weight_, {x.scalar_type()}, {"H"});
  const TensorArg out = op.output("out", out_, {x.scalar_type()}, {"T", "H"});
  run({.dtype = x.dtype(),
       .x = nullptr,
       .residual = x.data(),
       .out = out.data(),
       .x_stride = 0,
       .residual_stride = x.stride(0),
       .out_stride = out.stride(0),
       .norm = norm_of(weight, eps, offset),
       .num_rows = op.size("T"),
       .width = op.size("H")},
      x_);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, double offset) {
  OpCheck op("rms_norm");
  op.tensor("x", x, kFloating, {"T", "H"});
  const Tensor out = new_empty(x, {op.size("T"), op.size("H")}, x.scalar_type());
  rms_norm_out(x, weight, eps, offset, out);
  return out;
}

/// F, where x is [T, 2F].
std::int64_t gated_width(const OpCheck& op) {
  const std::int64_t both = op.size("2F");
  op.require(both % 2 == 0, "x", "an even number of columns", both);
  return both / 2;
}

const char* name_of(Activation activation) {
  return activation == Activation::kSilu ? "silu_and_mul" : "gelu_tanh_and_mul";
}

void gated_out(Activation activation, const Tensor& x_, const Tensor& out_) {
  OpCheck op(name_of(activation));
  const TensorArg x = op.tensor("x", x_, kFloating, {"T", "2F"});
  op.bind("F", gated_width(op));
  const TensorArg out = op.output("out", out_, {x.scalar_type()}, {"T", "F"});
  if (!x_.is_cpu()) require_grid(op, "x", "F / 128", op.size("F") / 128);
  run({.dtype = x.dtype(),
       .activation = activation,
       .gate_up = x.data(),
       .out = out.data(),
       .gate_up_stride = x.stride(0),
       .out_stride = out.stride(0),
       .num_rows = op.size("T"),
       .width = op.size("F")},
      x_);
}

Tensor gated(Activation activation, const Tensor& x) {
  OpCheck op(name_of(activation));
  op.tensor("x", x, kFloating, {"T", "2F"});
  const Tensor out = new_empty(x, {op.size("T"), gated_width(op)}, x.scalar_type());
  gated_out(activation, x, out);
  return out;
}

Tensor silu_and_mul(const Tensor& x) { return gated(Activation::kSilu, x); }
Tensor gelu_tanh_and_mul(const Tensor& x) { return gated(Activation::kGeluTanh, x); }
void silu_and_mul_out(const Tensor& x, const Tensor& out) { gated_out(Activation::kSilu, x, out); }
void gelu_tanh_and_mul_out(const Tensor& x, const Tensor& out) {
  gated_out(Activation::kGeluTanh, x, out);
}

const float* check_angles(OpCheck& op, const char* name, const Tensor& angles) {
  const TensorArg table = op.tensor(name, angles, {kFloat32}, {"L", "R/2"});
  const std::int64_t half = op.size("R/2");
  op.require(2 * half <= op.size("D"), name, "at most D / 2 columns", half);
  op.require(half == 0 || op.size("L") <= 1 || table.stride(0) == half, name, "contiguous rows",
             table.stride(0));
  return table.data<const float>();
}

void require_positions(const OpCheck& op, const RopeAppendKvParams& p) {
  if (p.rope.dim == 0) return;
  for (std::int64_t row = 0; row < p.append.row_indptr[p.append.batch_size]; ++row) {
    const std::int64_t position = p.position_ids[row];
    require_entry(op, 0 <= position && position < op.size("L"), "position_ids", "rows of cos",
                  position, row);
  }
}

void rope_append_kv(const Tensor& q_, const Tensor& k, const Tensor& v, const Tensor& k_cache,
                    const Tensor& v_cache, const Tensor& block_table, const Tensor& start,
                    const Tensor& row_indptr, const Tensor& position_ids_, const Tensor& cos,
                    const Tensor& sin, const MaybeTensor& q_norm, const MaybeTensor& k_norm,
                    double eps, double offset) {
  OpCheck op("rope_append_kv_");
  const TensorArg q = op.output("q", q_, kFloating, {"T", "Hq", "D"});
  op.require(op.size("D") <= kMaxHeadDim, "q", "a head_dim of at most 256", op.size("D"));
  const DTypes dtype = {q.scalar_type()};
  RopeAppendKvParams params{
      .dtype = q.dtype(),
      .q = q.data(),
      .q_strides = {q.stride(0), q.stride(1)},
      .num_qo_heads = op.size("Hq"),
      .q_norm = {},
      .k_norm = {},
      .rope = {},
      .position_ids = nullptr,
      .append =
          check_append_kv(op, dtype, {k, v, k_cache, v_cache, block_table, start, row_indptr}),
  };
  params.position_ids =
      op.tensor("position_ids", position_ids_, {kInt32}, {"T"}).data<const std::int32_t>();
  params.rope.cos = check_angles(op, "cos", cos);
  params.rope.sin = check_angles(op, "sin", sin);
  params.rope.dim = 2 * op.size("R/2");
  const auto q_weight = op.optional("q_norm", q_norm, dtype, {"D"});
  const auto k_weight = op.optional("k_norm", k_norm, dtype, {"D"});
  if (q_weight) params.q_norm = norm_of(*q_weight, eps, offset);
  if (k_weight) params.k_norm = norm_of(*k_weight, eps, offset);
  if (q_.is_cpu()) {
    require_append_values(op, params.append);
    require_positions(op, params);
    cpu_kernels().rope_append_kv(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(q_);
  launch_rope_append_kv(params, static_cast<CudaStream>(launch.stream()));
#endif
}

template <class Library>
void implement(Library& library) {
  library.impl("fused_add_rms_norm", TORCH_BOX(&fused_add_rms_norm));
  library.impl("rms_norm", TORCH_BOX(&rms_norm));
  library.impl("rms_norm_out", TORCH_BOX(&rms_norm_out));
  library.impl("rope_append_kv_", TORCH_BOX(&rope_append_kv));
  library.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
  library.impl("silu_and_mul_out", TORCH_BOX(&silu_and_mul_out));
  library.impl("gelu_tanh_and_mul", TORCH_BOX(&gelu_tanh_and_mul));
  library.impl("gelu_tanh_and_mul_out", TORCH_BOX(&gelu_tanh_and_mul_out));
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) { specbranch::implement(library); }

#if defined(SPECBRANCH_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) { specbranch::implement(library); }
#endif
