"""Linear layers with weights laid out once for the few rows of a draft block.

`nn.Linear` is slow there. And each row's result is the same to the bit whatever other rows share
the call, so a token verified in a tree gets the very logits of plain decoding, in bf16 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from specbranch import _C
from specbranch.loading.packing import lay_out
from specbranch.models.parts import Product, is_untouched
from specbranch.reference.linear import laid_flat


class PackedLinear(Product):
    """`nn.Linear` for inference on a CPU; the plain weight is not kept."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Lay out a copy of the weight."""
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.register_buffer("weight", lay_out(linear.weight.detach()))
        self.register_buffer("bias", bias)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Weight and bias as `nn.Linear` has them, a copy of the weight."""
        destination[f"{prefix}weight"] = laid_flat(self.weight, self.out_features)
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias.to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] in the weight's dtype. Returns [..., out_features]."""
        rows = x.reshape(-1, self.in_features)
        out = torch.ops.specbranch.packed_linear(rows, self.weight, self.out_features, self.bias)
        return out.view(*x.shape[:-1], self.out_features)

    def product(self, dtype: torch.dtype) -> _C.Linear:
        return _C.PackedLinear(weight=self.weight, out_features=self.out_features, bias=self.bias)


def pack_linears(model: nn.Module, borrowed: Sequence[Tensor] = ()) -> None:
    """Replace the model's `nn.Linear` layers by packed ones, in place, one at a time.

    A head tied to the embedding gets a packed copy; the embedding stays. Layers with hooks stay as
    they are.

    borrowed: of its parameters those that are somebody else's, and stay where they are.
    """
    packed = False
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and is_untouched(child):
                setattr(parent, name, PackedLinear(child))
                packed = True
    staying = set(map(id, borrowed))
    for parameter in model.parameters() if packed else ():
        if id(parameter) not in staying:
            parameter.data = parameter.data.clone()  # else it would keep the whole file mapped
