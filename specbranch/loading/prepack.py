"""Linear layers with weights laid out once for oneDNN, for the skinny matrices of verification.

A draft block has a few rows, where `nn.Linear` is slow: on one core of an AMD EPYC with AVX-512,
the weights of SmolLM2-135M took 46, 61 and 71 ms for 1, 4 and 8 rows in fp32, and 35, 33 and 43 ms
laid out ahead. It has a second merit: each row's result is the same to the bit whatever other rows
share the call, so a token verified in a tree gets the very logits of plain decoding, in bf16 too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from specbranch import _C
from specbranch.models.parts import Product, is_untouched

# The layout is chosen for this many rows; it serves any number.
_LAYOUT_ROWS = 16

# Fewer than four rows take another oneDNN kernel, slower and rounding differently, so they are
# padded. Many rows, those of a prompt, are padded to multiples of 32: oneDNN keeps what it
# generates for each number of rows, some 0.6 MiB a layer shape, and a server meets every length of
# prompt.
_LEAST_ROWS = 4
_ROW_STEP = 32

# More rows than 32 in bf16 on AMX are summed in another order than fewer are, so they go in parts.
_AMX_ROWS = 32
_ANY_ROWS = 1 << 30


def _most_rows(dtype: torch.dtype) -> int:
    """Up to how many rows a product has the bits that it has for four rows."""
    amx = dtype is torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return _AMX_ROWS if amx else _ANY_ROWS


class PackedLinear(Product):
    """`nn.Linear` for CPU inference in fp32 or bf16; the plain weight is not kept."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        """Pack a copy of the weight in `dtype`."""
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        weight = linear.weight.detach().to(dtype).contiguous()
        # An opaque tensor: Module.to() cannot move it.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _LAYOUT_ROWS)
        self.register_buffer("_packed", packed, persistent=False)
        self._most_rows = _most_rows(dtype)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Weight and bias as `nn.Linear` has them, a copy of the weight."""
        destination[f"{prefix}weight"] = self.get_buffer("_packed").to_dense()
        if self._bias is not None:
            destination[f"{prefix}bias"] = self._bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., n, in_features] in the packed dtype. Returns [..., n, out_features]."""
        rows = x.flatten(0, -2)
        n_rows = len(rows)
        few = n_rows <= _ROW_STEP
        lacking = max(_LEAST_ROWS - n_rows, 0) if few else -n_rows % _ROW_STEP
        if lacking:
            rows = nn.functional.pad(rows, (0, 0, 0, lacking))
        parts = [self._multiply(some) for some in rows.split(self._most_rows)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out[:n_rows].view(*x.shape[:-1], self.out_features)

    def _multiply(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._packed, self._bias, "none", [], ""
        )
        return out

    def product(self, dtype: torch.dtype) -> _C.Linear:
        return _C.PackedLinear(
            weight=self.get_buffer("_packed"),
            bias=self._bias,
            dtype=str(dtype).removeprefix("torch."),
            in_features=self.in_features,
            out_features=self.out_features,
            max_rows=self._most_rows,
        )


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and CPU multiply packed weights of that dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def pack_linears(model: nn.Module) -> None:
    """Replace the model's `nn.Linear` layers by packed ones, in place, one at a time.

    A head tied to the embedding gets a packed copy; the embedding stays. Layers in a dtype that
    cannot be packed here, and those with hooks, stay as they are.
    """
    packed = False
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or not is_untouched(child):
                continue
            if can_pack(child.weight.dtype):
                setattr(parent, name, PackedLinear(child, child.weight.dtype))
                packed = True
    for parameter in model.parameters() if packed else ():
        parameter.data = parameter.data.clone()  # else it would keep the whole file mapped
