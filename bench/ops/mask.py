"""`tree_mask`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import floors
from bench.measure import Call
from bench.ops.case import EAGER, OURS, Case, Way
from bench.ops.inputs import ints, rows_of_each
from specbranch import ops


@dataclass(frozen=True, slots=True)
class Trees:
    """parents int32 [B, N], n_nodes int32 [B]"""

    parents: Tensor
    n_nodes: Tensor


def tree_mask(batch: int, nodes: int) -> Case:
    """Of binary trees."""

    def inputs(device: torch.device) -> Trees:
        parents = ints(device, [(node - 1) // 2 if node else -1 for node in range(nodes)])
        return Trees(parents.repeat(batch, 1), ints(device, [nodes] * batch))

    return Case(
        op="tree_mask",
        model="-",
        params={"batch": batch, "nodes": nodes},
        dtype=torch.int32,
        work=floors.tree_mask(batch=batch, nodes=nodes),
        memory=0,
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _ours),
            Way(EAGER, "eager", _eager),
        ),
    )


def _ours(x: Trees) -> Call:
    batch, nodes = x.parents.shape
    row_indptr = rows_of_each(x.parents.device, batch, nodes)
    mask = x.parents.new_empty(batch * nodes, floors.words(nodes))
    depth = x.parents.new_empty(batch * nodes)

    def call() -> tuple[Tensor, Tensor]:
        ops.tree_mask_out(x.parents, x.n_nodes, row_indptr, mask, depth)
        return mask, depth

    return call


def _eager(x: Trees) -> Call:
    """Squares of the matrix of who is whose parent, then bits."""
    nodes, device = x.parents.shape[1], x.parents.device
    ids = torch.arange(nodes, device=device)
    own = torch.eye(nodes, device=device)
    bits = (1 << ids % 32).to(torch.int32)
    padding = -nodes % 32

    def call() -> tuple[Tensor, Tensor]:
        seen = (x.parents[:, :, None] == ids).float() + own
        for _ in range(nodes.bit_length()):
            seen = (seen @ seen).clamp_max(1)
        set_bits = F.pad(seen.to(torch.int32) * bits, (0, padding))
        words = set_bits.unflatten(2, (-1, 32)).sum(-1, dtype=torch.int32)
        return words.flatten(0, 1), (seen.sum(-1).to(torch.int32) - 1).flatten()

    return call
