"""`packed_linear` and `quantized_linear`: all of a model's layers, as a forward reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear as plain_linear
from torch.nn.functional import pad

from bench import floors
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, OURS, Case, Way
from specbranch import ops
from specbranch.loading.packing import lay_out, quantize
from specbranch.reference.linear import GROUP

PACKED_FP32, PACKED_BF16 = "oneDNN, packed float32", "oneDNN, packed bfloat16"
INT4 = "torch, int4"


@dataclass(frozen=True, slots=True)
class LinearInputs:
    """weights: float32 [N, K], those of the same K stacked. x [R, K], one for each."""

    weights: list[Tensor]
    x: list[Tensor]

    @classmethod
    def random(
        cls, shapes: Sequence[tuple[int, int]], rows: int, dtype: torch.dtype, device: torch.device
    ) -> LinearInputs:
        weights = [torch.randn(n, k, device=device) / k**0.5 for n, k in shapes]
        return cls(weights, [torch.randn(rows, k, dtype=dtype, device=device) for _, k in shapes])


def _layers(model: Model) -> list[tuple[int, int]]:
    """Shapes [N, K] of every matrix of every layer, those of the same K stacked."""
    hidden = model.heads.num_qo_heads * model.heads.head_dim
    key_values = model.heads.num_kv_heads * model.heads.head_dim
    into = 2 * (hidden + key_values + model.ffn)  # q and o, k and v, gate and up
    return [(model.layers * into, hidden), (model.layers * hidden, model.ffn)]


def packed(model: Model, dtype: torch.dtype, rows: int) -> Case:
    ours = partial(_ours, lambda weight: lay_out(weight.to(dtype)), ops.packed_linear)
    bits = 8 * dtype.itemsize
    return _case("packed_linear", model, dtype, {"rows": rows}, _layers(model), bits, ours)


def quantized(model: Model, dtype: torch.dtype, bits: int, rows: int) -> Case:
    """bits 4: every matrix of every layer; bits 8: the head."""
    ours = partial(_ours, lambda weight: quantize(weight, bits), ops.quantized_linear)
    head = (model.vocab, model.heads.num_qo_heads * model.heads.head_dim)
    shapes = _layers(model) if bits == 4 else [head]
    params = {"bits": bits, "rows": rows}
    return _case("quantized_linear", model, dtype, params, shapes, bits, ours)


def _case(
    op: str,
    model: Model,
    dtype: torch.dtype,
    params: dict[str, int],
    shapes: list[tuple[int, int]],
    bits: int,
    ours: Callable[[LinearInputs], Call],
) -> Case:
    """bits: of a weight, as ours has it."""
    numbers, rows = sum(n * k for n, k in shapes), params["rows"]
    return Case(
        op=op,
        model=model.name,
        params=params,
        dtype=dtype,
        work=floors.linear(shapes, rows=rows, bits=bits, element_size=dtype.itemsize),
        memory=4 * numbers,
        inputs=lambda device: LinearInputs.random(shapes, rows, dtype, device),
        ways=(
            Way(OURS, "ours", ours, numbers * dtype.itemsize),
            Way(EAGER, "eager", _eager, numbers * dtype.itemsize),
            Way(PACKED_FP32, "library", partial(_onednn, torch.float32), 4 * numbers),
            Way(PACKED_BF16, "library", partial(_onednn, torch.bfloat16), 2 * numbers),
            *([Way(INT4, "library", _int4, numbers)] if bits == 4 else []),
        ),
        devices=("cpu",),
    )


def _ours(
    pack: Callable[[Tensor], Tensor],
    multiply: Callable[[Tensor, Tensor, int], Tensor],
    x: LinearInputs,
) -> Call:
    layers = [
        (each, pack(weight), len(weight)) for each, weight in zip(x.x, x.weights, strict=True)
    ]
    return lambda: [multiply(*layer) for layer in layers]


def _eager(x: LinearInputs) -> Call:
    weights = [weight.to(x.x[0].dtype) for weight in x.weights]
    return lambda: [plain_linear(*layer) for layer in zip(x.x, weights, strict=True)]


def _onednn(dtype: torch.dtype, x: LinearInputs) -> Call:
    """Weights in the layout that oneDNN chooses for few rows; it pads fewer than four."""
    rows = [pad(each.to(dtype), (0, 0, 0, max(4 - len(each), 0))) for each in x.x]
    reorder = torch.ops.mkldnn._reorder_linear_weight
    weights = [reorder(weight.to(dtype), len(rows[0])) for weight in x.weights]
    multiply = torch.ops.mkldnn._linear_pointwise
    layers = [(*each, None, "none", [], "") for each in zip(rows, weights, strict=True)]
    count = len(x.x[0])
    return lambda: [multiply(*layer)[:count] for layer in layers]


def _int4(x: LinearInputs) -> Call:
    """Torch's weight-only product, whose activations stay in bfloat16."""
    packed = [_int4_weight(weight) for weight in x.weights]
    layers = [
        (each.to(torch.bfloat16), weight, GROUP, scale)
        for each, (weight, scale) in zip(x.x, packed, strict=True)
    ]
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return lambda: [multiply(*layer) for layer in layers]


def _int4_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.aminmax(dim=-1)
    scale = (high - low) / 15
    levels = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15)
    packed = torch._convert_weight_to_int4pack_for_cpu(levels.int().view_as(weight), 1)
    middle = low + 8 * scale  # the value of level 8
    return packed, torch.stack([scale.T, middle.T], dim=-1).bfloat16().contiguous()
