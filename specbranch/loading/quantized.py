"""Layers whose weights have 4 or 8 bits, multiplied as they are, on a CPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbranch import _C, ops
from specbranch.loading.copies import sharing_copy
from specbranch.loading.packing import quantize
from specbranch.loading.prepack import PackedLinear
from specbranch.models.parts import Product, Table
from specbranch.reference.linear import GROUP

WEIGHTS = {"q4": 4, "q8": 8}
"""Bits of the weights that a model can be given."""
HEAD_BITS = 8  # with 4 the head costs SmolLM2 ten points of greedy agreement
_SELF = {"int4": 4, "int8": 8}


class QuantizedLinear(Product):
    """`nn.Linear` with packed weights; what it multiplies by is `rows`."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, out_features: int, bias: Tensor | None = None) -> None:
        """weight: as `packing.pack` lays it out, taken over. bias: [out_features]."""
        super().__init__()
        self.in_features = weight.shape[1] * GROUP
        self.out_features = out_features
        self.bits = bits_of(weight)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features]. Returns [..., out_features] in its dtype."""
        rows = x.reshape(-1, self.in_features)
        out = torch.ops.specbranch.quantized_linear(rows, self.weight, self.out_features, self.bias)
        return out.view(*x.shape[:-1], self.out_features)

    def product(self, dtype: torch.dtype) -> _C.Linear:
        return _C.QuantizedLinear(
            weight=self.weight,
            out_features=self.out_features,
            bias=self.bias,
            dtype=str(dtype).removeprefix("torch."),
        )

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the weight that it multiplies by, float32 [n, in_features]."""
        return ops.quantized_rows(self.weight, ids.int())

    def plain(self, dtype: torch.dtype) -> nn.Linear:
        """A copy of ordinary numbers."""
        biased = self.bias is not None
        linear = nn.Linear(self.in_features, self.out_features, biased, device="meta")
        weight = self.rows(torch.arange(self.out_features)).to(dtype)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.to(dtype), requires_grad=False)
        return linear


class QuantizedEmbedding(Table):
    """`nn.Embedding` with packed weights, which may be a head's, too."""

    def __init__(self, weight: Tensor, num_embeddings: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = weight.shape[1] * GROUP
        self.register_buffer("weight", weight)
        self._dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...]. Returns [..., embedding_dim] in the dtype of the model."""
        rows = self.rows(ids.flatten()).to(self._dtype)
        return rows.view(*ids.shape, self.embedding_dim)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the table, float32 [n, embedding_dim]."""
        return ops.quantized_rows(self.weight, ids.int())


def bits_of(weight: Tensor) -> int:
    """Of a packed weight."""
    return 4 if weight.shape[2] == 16 * GROUP // 2 + 64 else 8


def fits(module: nn.Module) -> bool:
    """Whether a layer's weight has whole groups of inputs."""
    if type(module) is nn.Linear:
        return module.in_features % GROUP == 0
    return type(module) is nn.Embedding and module.embedding_dim % GROUP == 0


def in_bits(linear: nn.Module, bits: int) -> nn.Module:
    """A layer rounded to so many bits, or the layer itself where it has no more or does not fit."""
    if isinstance(linear, QuantizedLinear) and linear.bits > bits:
        linear = linear.plain(torch.float32)
    if not (type(linear) is nn.Linear and fits(linear)):
        return linear
    return QuantizedLinear(quantize(linear.weight, bits), linear.out_features, linear.bias)


def quantize_linears(model: PreTrainedModel, bits: int) -> None:
    """Round the model's linear layers to `bits` and its head to 8, in place (see
    `round_linears`)."""
    round_linears(model, bits, model.get_output_embeddings())


def round_linears(module: nn.Module, bits: int, head: nn.Module | None = None) -> None:
    """Round a module's linear layers to `bits`, the `head` among them to 8, in place, one at a
    time.

    A layer that has no more bits already stays, and so does one without whole groups of 32 inputs.
    """
    for name, part in list(module.named_modules()):
        if _is_linear(part):
            module.set_submodule(name, in_bits(part, HEAD_BITS if part is head else bits))


def quantize_model(model: PreTrainedModel, bits: int) -> None:
    """Round all of a model's matrices, in place: its embedding has the head's 8 bits.

    Raises ValueError where no layer of it has whole groups of 32 inputs.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    tied = getattr(head, "weight", None) is embedding.weight
    quantize_linears(model, bits)
    if not any(map(_is_quantized, model.modules())):
        raise ValueError(
            f"q{bits}: expected layers of a multiple of {GROUP} inputs, got {type(model).__name__} "
            "with none"
        )
    if not fits(embedding):
        return
    new_head: Any = model.get_output_embeddings()
    shared = tied and _is_quantized(new_head)
    weight = new_head.weight if shared else quantize(embedding.weight, HEAD_BITS)
    dtype = embedding.weight.dtype
    model.set_input_embeddings(QuantizedEmbedding(weight, embedding.num_embeddings, dtype))


def _bits(module: nn.Module) -> int | None:
    return module.bits if isinstance(module, QuantizedLinear) else None


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | QuantizedLinear)


def _is_quantized(module: nn.Module) -> bool:
    return isinstance(module, QuantizedLinear)


def body_bits(model: PreTrainedModel) -> int | None:
    """The bits of the layers without the head, the most that one has; None where one is plain."""
    head = model.get_output_embeddings()
    found = [
        _bits(module) for module in model.modules() if module is not head and _is_linear(module)
    ]
    return None if None in found else max(filter(None, found), default=None)


def describe_weights(model: PreTrainedModel) -> str:
    """How many of the model's linear layers have their weights in what."""
    kinds = Counter(
        f"q{module.bits}" if isinstance(module, QuantizedLinear) else str(model.dtype)[6:]
        for module in model.modules()
        if isinstance(module, nn.Linear | PackedLinear | QuantizedLinear)
    )
    return ", ".join(f"{count} layers in {kind}" for kind, count in sorted(kinds.items()))


def quantized_copy(target: PreTrainedModel, kind: str) -> PreTrainedModel:
    """A draft from the target's own weights: its linear layers in few bits, all else shared.

    target: on CPU, with plain (not packed) or quantised linear layers; left as it is.
    kind: "int4" or "int8".

    Raises ValueError for another kind, a target not on CPU or with no more bits itself.
    """
    if kind not in _SELF:
        raise ValueError(f"draft: expected self:{' or self:'.join(_SELF)}, got self:{kind}")
    bits, own = _SELF[kind], body_bits(target)
    if target.device.type != "cpu":
        raise ValueError(f"draft: self:{kind} runs on cpu only, got a target on {target.device}")
    if own is not None and own <= bits:
        raise ValueError(
            f"draft: expected one that costs less than its target, got self:{kind} of a target "
            f"that has {own} bits itself; a distilled draft or a small model of its family does"
        )
    draft = sharing_copy(target)
    quantize_linears(draft, bits)
    return draft
