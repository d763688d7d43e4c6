"""Runs every op once on the GPU: the program that compute-sanitizer watches."""

from __future__ import annotations

import torch

from specbranch import ops
from tests.cuda.on_device import Mover
from tests.cuda.test_graphs import chain_over_a_context
from tests.ops.calls import ON_CUDA
from tests.ops.tree_cases import two_failures_along_a_path


def main() -> None:
    for name, call in ON_CUDA.items():
        getattr(ops, name)(**Mover().move(call()))
    for dtype in (torch.float32, torch.bfloat16):
        case = chain_over_a_context(nodes=5, max_context=1500, dtype=dtype)
        ops.branch_attention(*Mover().move(case.arguments()))
    logits = torch.randn(3, 32_000, device="cuda")
    for filters in ((1.0, 0, 1.0, 0.0), (0.7, 50, 0.95, 0.02)):
        temperature, top_k, top_p, min_p = (
            torch.full((3,), value, device="cuda") for value in filters
        )
        ops.draft_topk(
            logits,
            8,
            temperature,
            top_k.int(),
            top_p,
            min_p,
            torch.arange(3, device="cuda"),
            torch.arange(3, device="cuda", dtype=torch.int32),
            "gumbel",
        )
    ops.verify_tree(*Mover().move(two_failures_along_a_path().arguments()))
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
