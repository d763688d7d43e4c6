"""`quantized_linear`: all of a model's layers at once, as a forward reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain_linear

from bench import floors
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, OURS, Case, Way
from specbranch import ops
from specbranch.loading.packing import quantize
from specbranch.loading.prepack import PackedLinear, can_pack
from specbranch.reference.linear import GROUP

PACKED_FP32, PACKED_BF16 = "oneDNN, packed float32", "oneDNN, packed bfloat16"
INT4 = "torch, int4"


@dataclass(frozen=True, slots=True)
class LinearInputs:
    """weights: float32 [N, K], those of the same K stacked. x [R, K], one for each."""

    weights: list[Tensor]
    x: list[Tensor]
    bits: int


def linear(model: Model, dtype: torch.dtype, bits: int, rows: int) -> Case:
    """bits 4: every matrix of every layer; bits 8: the head."""
    hidden = model.heads.num_qo_heads * model.heads.head_dim
    key_values = model.heads.num_kv_heads * model.heads.head_dim
    into = 2 * (hidden + key_values + model.ffn)  # q and o, k and v, gate and up
    shapes = [(model.layers * into, hidden), (model.layers * hidden, model.ffn)]
    if bits == 8:
        shapes = [(model.vocab, hidden)]

    def inputs(device: torch.device) -> LinearInputs:
        weights = [torch.randn(n, k, device=device) / k**0.5 for n, k in shapes]
        x = [torch.randn(rows, k, dtype=dtype, device=device) for _, k in shapes]
        return LinearInputs(weights, x, bits)

    numbers = sum(n * k for n, k in shapes)
    return Case(
        op="quantized_linear",
        model=model.name,
        params={"bits": bits, "rows": rows},
        dtype=dtype,
        work=floors.linear(shapes, rows=rows, bits=bits, element_size=dtype.itemsize),
        memory=4 * numbers,
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _ours, numbers),
            Way(EAGER, "eager", _eager, numbers * dtype.itemsize),
            Way(PACKED_FP32, "library", partial(_packed, torch.float32), 4 * numbers),
            Way(PACKED_BF16, "library", partial(_packed, torch.bfloat16), 2 * numbers),
            *([Way(INT4, "library", _int4, numbers)] if bits == 4 else []),
        ),
        devices=("cpu",),
    )


def _ours(x: LinearInputs) -> Call:
    weights = [quantize(weight, x.bits) for weight in x.weights]
    sizes = [len(weight) for weight in x.weights]
    layers = list(zip(x.x, weights, sizes, strict=True))
    return lambda: [ops.quantized_linear(*layer) for layer in layers]


def _eager(x: LinearInputs) -> Call:
    weights = [weight.to(x.x[0].dtype) for weight in x.weights]
    return lambda: [plain_linear(*layer) for layer in zip(x.x, weights, strict=True)]


def _packed(dtype: torch.dtype, x: LinearInputs) -> Call:
    if not can_pack(dtype):
        raise ValueError(f"no packed products in {dtype} on this CPU")
    layers = [PackedLinear(_layer(weight), dtype) for weight in x.weights]
    rows = [each.to(dtype) for each in x.x]
    return lambda: _outputs(layers, rows)


def _layer(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _outputs(layers: Sequence[nn.Module], rows: Sequence[Tensor]) -> list[Tensor]:
    return [layer(x) for layer, x in zip(layers, rows, strict=True)]


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
