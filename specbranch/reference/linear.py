"""Linear layers with weights laid out for few rows, in ordinary numbers or in few bits."""

from __future__ import annotations

import torch
from torch import Tensor

PACKED = 32
"""Outputs of a packed weight that lie side by side."""
GROUP, TILE = 32, 16
TINY = 1e-30
"""What has no magnitude above counts as zero."""
_HALVES = 2 * TILE  # bytes of a group's scales, and of its minima


def laid_flat(weight: Tensor, out_features: int) -> Tensor:
    """The matrix [out_features, K] that a weight [tiles, K, 32] stands for."""
    return weight.transpose(1, 2).flatten(0, 1)[:out_features]


def packed_linear(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None = None
) -> Tensor:
    """x [R, K]; weight [ceil(N / 32), K, 32], each tile of 32 outputs transposed; out_features N;
    bias [N] -> [R, N]."""
    product = x.double() @ laid_flat(weight, out_features).double().T
    return product if bias is None else product + bias


def unpack(weight: Tensor) -> Tensor:
    """The matrix [16 tiles, 32 groups] in float64 that a packed weight stands for.

    weight uint8 [tiles, groups, bytes]: of 16 outputs and 32 inputs 256 bytes of 4-bit levels, 16
    scales and 16 minima in float16, or 512 bytes of 8-bit levels and 16 scales. A slice of 64 bytes
    has 4 bytes of each output: with 4 bits, inputs 0 to 3 in the low and 4 to 7 in the high halves.
    """
    tiles, groups, size = weight.shape
    bits = 4 if size == 256 + 2 * _HALVES else 8
    levels = weight[..., : 64 * bits].view(tiles, groups, -1, 1, TILE, 4).int()
    if bits == 4:
        levels = torch.cat([levels & 15, levels >> 4], dim=3)
    levels = levels.permute(0, 4, 1, 2, 3, 5).reshape(tiles, TILE, groups, GROUP)
    scale, *rest = (
        halves.contiguous().view(torch.float16).double().transpose(1, 2)[..., None]
        for halves in weight[..., 64 * bits :].split(_HALVES, dim=-1)
    )
    minimum = rest[0] if rest else -128 * scale
    return (levels * scale + minimum).reshape(tiles * TILE, groups * GROUP)


def quantized_linear(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None = None
) -> Tensor:
    """x [R, K], each group of 32 rounded in float32 to a 127th of its largest magnitude.

    weight uint8 [ceil(N / 16), K / 32, bytes], see `unpack`; out_features N; bias [N] -> [R, N].
    """
    groups = x.float().unflatten(1, (-1, GROUP))
    largest = groups.abs().amax(-1, keepdim=True)
    most = torch.full_like(largest, 127)  # torch divides a number by way of a reciprocal
    levels = torch.where(largest > TINY, (groups * most.div(largest)).round(), 0)
    rounded = levels.double() * (largest / 127).double()
    product = rounded.flatten(1) @ unpack(weight)[:out_features].T
    return product if bias is None else product + bias


def quantized_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """Rows of the matrix: weight as there, ids [R] -> [R, K]."""
    return unpack(weight)[ids.long()]
