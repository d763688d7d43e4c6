"""Linear layers with weights laid out once for oneDNN, for the skinny matrices of verification.

A draft block has a few rows, where `nn.Linear` is slow: on one core of an AMD EPYC with AVX-512,
the weights of SmolLM2-135M took 46, 61 and 71 ms for 1, 4 and 8 rows in fp32, and 35, 33 and 43 ms
laid out ahead. It has a second merit: each row's result is the same to the bit whatever other rows
share the call, so a token verified in a tree gets the very logits of plain decoding, in bf16 too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The layout is chosen for this many rows; it serves any number.
_LAYOUT_ROWS = 16

# Fewer than four rows take another oneDNN kernel, slower and rounding differently, so they are
# padded. Many rows, those of a prompt, are padded to multiples of 32: oneDNN keeps what it
# generates for each number of rows, some 0.6 MiB a layer shape, and a server meets every length of
# prompt. In script because a traced forward must keep the choice, and the list of scalars, which
# tracing alone cannot express.
_script = torch.jit.CompilationUnit("""
def multiply(x: Tensor, packed: Tensor, bias: Optional[Tensor], most_rows: int) -> Tensor:
    scalars: List[Optional[number]] = []
    rows = x.flatten(0, -2)
    n_rows = rows.size(0)
    lacking = max(4 - n_rows, 0) if n_rows <= 32 else -n_rows % 32
    if lacking > 0:
        rows = torch.constant_pad_nd(rows, [0, 0, 0, lacking])
    if n_rows + max(lacking, 0) <= most_rows:
        out = torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", scalars, "")
    else:
        outs: List[Tensor] = []
        for some in rows.split(most_rows):
            outs.append(
                torch.ops.mkldnn._linear_pointwise(some, packed, bias, "none", scalars, "")
            )
        out = torch.cat(outs)
    return out.narrow(0, 0, n_rows).view(x.size()[:-1] + [-1])
""")

# More rows than 32 in bf16 on AMX are summed in another order than fewer are, so they go in parts.
_AMX_ROWS = 32
_ANY_ROWS = 1 << 30


def _most_rows(dtype: torch.dtype) -> int:
    """Up to how many rows a product has the bits that it has for four rows."""
    amx = dtype is torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return _AMX_ROWS if amx else _ANY_ROWS


class PackedLinear(nn.Module):
    """`nn.Linear` for CPU inference in fp32 or bf16; the plain weight is not kept."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        """Pack a copy of the weight in `dtype`."""
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        weight = linear.weight.detach().to(dtype).contiguous()
        # An opaque tensor: state dicts cannot hold it, nor Module.to() move it.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _LAYOUT_ROWS)
        self.register_buffer("_packed", packed, persistent=False)
        self._most_rows = _most_rows(dtype)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., n, in_features] in the packed dtype. Returns [..., n, out_features]."""
        out: Tensor = _script.multiply(x, self._packed, self._bias, self._most_rows)
        return out


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

    A head tied to the embedding gets a packed copy; the embedding stays. Models in a dtype that
    cannot be packed here stay as they are.
    """
    packed = False
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and can_pack(child.weight.dtype):
                setattr(parent, name, PackedLinear(child, child.weight.dtype))
                packed = True
    for parameter in model.parameters() if packed else ():
        parameter.data = parameter.data.clone()  # else it would keep the whole file mapped
