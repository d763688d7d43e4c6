"""Weights in the layouts that `ops.packed_linear` and `ops.quantized_linear` read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from specbranch.reference.linear import GROUP, PACKED, TILE

_ROWS_AT_ONCE = 4096  # of a large matrix, so that little stands beside it


def lay_out(weight: Tensor) -> Tensor:
    """A copy of a matrix [N, K] in ordinary numbers as [ceil(N / 32), K, 32]."""
    padded = pad(weight, (0, 0, 0, -len(weight) % PACKED))
    return padded.unflatten(0, (-1, PACKED)).transpose(1, 2).contiguous()


def pack(levels: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Tensor:
    """Lay out a matrix that is `levels * scale + minimum`, or `(levels - 128) * scale`.

    levels: uint8 [N, K], below 16 where there is a minimum. scale, minimum: float16 [N, K / 32].

    Returns uint8 [ceil(N / 16), K / 32, 320] with a minimum, [ceil(N / 16), K / 32, 544] without.
    """
    tiles = -(-len(levels) // TILE)
    lacking = tiles * TILE - len(levels)
    groups = levels.shape[1] // GROUP
    by_slice = pad(levels, (0, 0, 0, lacking)).view(tiles, TILE, groups, GROUP // 4, 4)
    by_slice = by_slice.permute(0, 2, 3, 1, 4).flatten(3)  # of 4 inputs
    if minimum is not None:
        by_slice = by_slice[:, :, ::2] | by_slice[:, :, 1::2] << 4
    halves = [
        pad(values, (0, 0, 0, lacking)).view(tiles, TILE, groups).transpose(1, 2).contiguous()
        for values in (scale, minimum)
        if values is not None
    ]
    return torch.cat([by_slice.flatten(2), *(values.view(torch.uint8) for values in halves)], dim=2)


def quantize(weight: Tensor, bits: int) -> Tensor:
    """Round a matrix [N, K] to 4 or 8 bits in groups of 32 inputs and pack it.

    4 bits are 16 levels between a group's extremes, 8 bits 255 around zero.
    """
    rounded = _round_to_4_bits if bits == 4 else _round_to_8_bits
    parts = weight.detach().split(_ROWS_AT_ONCE)
    return torch.cat([pack(*rounded(part.float().unflatten(1, (-1, GROUP)))) for part in parts])


def _round_to_4_bits(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale, minimum = ((high - low) / 15).half(), low.half()
    levels = _levels(groups - minimum.float(), scale).clamp_(0, 15)
    return levels.flatten(1).byte(), scale.squeeze(-1), minimum.squeeze(-1)


def _round_to_8_bits(groups: Tensor) -> tuple[Tensor, Tensor]:
    scale = (groups.abs().amax(-1, keepdim=True) / 127).half()
    levels = _levels(groups, scale).clamp_(-127, 127) + 128
    return levels.flatten(1).byte(), scale.squeeze(-1)


def _levels(values: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, values / scale.float(), 0).round_()
