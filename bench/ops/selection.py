"""Which ops at which shapes: by size of the run, then by regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import torch

from bench.models import LLAMA_8B, LLAMA_68M, MODELS, QWEN_1_5B, SMOLLM2, Model
from bench.ops.attention import attention
from bench.ops.case import Case
from bench.ops.kv import append_kv, compact_kv
from bench.ops.laws import COMMON_FILTER, NO_FILTER
from bench.ops.linear import packed, quantized
from bench.ops.mask import tree_mask
from bench.ops.sampling import draft_topk, sample, sampling_probs
from bench.ops.verify import COUPLINGS, verify_tree

CONTEXTS = (128, 512, 2048, 8192, 32768)
BRANCHES = (1, 2, 4, 8, 16, 32)
TREES = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (1, 8, 32)
FILTERS = (NO_FILTER, COMMON_FILTER)
MAIN_LINE = 8
"""Nodes that a walk visits at most, all of them in trees up to this size."""


def verification(
    coupling: str, model: Model, dtype: torch.dtype, batch: int, nodes: int, kept=NO_FILTER
) -> Case:
    visited = min(nodes, MAIN_LINE)
    return verify_tree(coupling, model, dtype, batch, nodes, visited, kept)


def smoke(dtype: torch.dtype) -> list[Case]:
    """Every op once, small."""
    return [
        tree_mask(1, 8),
        append_kv(LLAMA_68M, dtype, 1, 4),
        attention(SMOLLM2, dtype, 1, 128, 2),
        compact_kv(LLAMA_68M, dtype, 1, 4),
        sampling_probs(LLAMA_68M, dtype, 1),
        sample(LLAMA_68M, dtype, 1),
        *(draft_topk(coupling, LLAMA_68M, dtype, 1, 4) for coupling in COUPLINGS[1:]),
        *(verification(coupling, LLAMA_68M, dtype, 1, 4) for coupling in COUPLINGS),
        packed(LLAMA_68M, dtype, 2),
        quantized(LLAMA_68M, dtype, 4, 2),
    ]


def goals(dtype: torch.dtype) -> list[Case]:
    """The shapes that goals are set for."""
    return [
        *(attention(model, dtype, 1, 8192, rows) for model in MODELS for rows in (1, 8)),
        attention(LLAMA_8B, dtype, 8, 8192, 8),
        attention(LLAMA_8B, dtype, 1, 32768, 8),
        *(compact_kv(model, dtype, 1, 4) for model in MODELS),
        *(
            verification(coupling, model, dtype, 1, 8)
            for coupling in COUPLINGS
            for model in (LLAMA_8B, SMOLLM2)
        ),
        *(verification(c, SMOLLM2, dtype, 1, 8, COMMON_FILTER) for c in COUPLINGS[1:]),
        *(packed(SMOLLM2, dtype, rows) for rows in (1, 4, 8, 16)),
        *(quantized(SMOLLM2, dtype, bits, rows) for bits in (4, 8) for rows in (1, 4, 8, 16)),
    ]


def default(dtype: torch.dtype) -> list[Case]:
    """The goals' shapes, and a line through them along each axis."""
    return [
        *(tree_mask(batch, nodes) for batch, nodes in ((1, 8), (1, 64), (32, 64))),
        *(append_kv(model, dtype, 1, 8) for model in MODELS),
        append_kv(LLAMA_8B, dtype, 32, 8),
        *goals(dtype),
        *(attention(model, dtype, 1, context, 8) for model in MODELS for context in (128, 2048)),
        attention(SMOLLM2, dtype, 1, 32768, 8),
        *(attention(SMOLLM2, dtype, 1, 8192, rows) for rows in (2, 4, 16, 32)),
        *(attention(SMOLLM2, dtype, batch, 2048, 8) for batch in (8, 32)),
        *(compact_kv(SMOLLM2, dtype, batch, moved) for batch, moved in ((1, 1), (1, 32), (8, 4))),
        *(sampling_probs(model, dtype, 8) for model in MODELS),
        sampling_probs(SMOLLM2, dtype, 8, COMMON_FILTER),
        *(sample(model, dtype, 8) for model in MODELS),
        *(sample(SMOLLM2, dtype, rows) for rows in (1, 32)),
        sample(SMOLLM2, dtype, 8, COMMON_FILTER),
        *(draft_topk("gumbel", model, dtype, 4, 4) for model in MODELS),
        draft_topk("gumbel", SMOLLM2, dtype, 16, 8),
        draft_topk("rejection", SMOLLM2, dtype, 4, 4),
        *(verification(c, m, dtype, 1, 8) for c in COUPLINGS for m in (QWEN_1_5B, LLAMA_68M)),
        *(verification("gumbel", SMOLLM2, dtype, 1, nodes) for nodes in (1, 2, 4, 16, 32, 64)),
        *(verification("gumbel", LLAMA_68M, dtype, batch, 8) for batch in (8, 32)),
    ]


def everything(dtype: torch.dtype) -> list[Case]:
    """Every model at every combination of sizes."""
    sizes = list(product(MODELS, BATCHES))
    return [
        *(tree_mask(batch, nodes) for batch in BATCHES for nodes in TREES),
        *(append_kv(model, dtype, batch, nodes) for model, batch in sizes for nodes in TREES),
        *(
            attention(model, dtype, batch, context, rows)
            for (model, batch), context, rows in product(sizes, CONTEXTS, BRANCHES)
        ),
        *(compact_kv(model, dtype, batch, nodes) for model, batch in sizes for nodes in TREES),
        *(
            op(model, dtype, rows, kept)
            for op in (sampling_probs, sample)
            for model, rows, kept in product(MODELS, TREES, FILTERS)
        ),
        *(
            draft_topk(coupling, model, dtype, rows, k)
            for coupling, model, rows, k in product(COUPLINGS[1:], MODELS, TREES, (1, 4, 8))
        ),
        *(
            verification(coupling, model, dtype, batch, nodes, kept)
            for coupling, (model, batch), nodes, kept in product(COUPLINGS, sizes, TREES, FILTERS)
            if kept is NO_FILTER or coupling != "greedy"
        ),
        *(packed(model, dtype, rows) for model, rows in product(MODELS, (1, 2, 4, 8, 16, 32))),
        *(
            quantized(model, dtype, bits, rows)
            for model, bits, rows in product(MODELS, (4, 8), (1, 2, 4, 8, 16, 32))
        ),
    ]


SIZES: dict[str, Callable[[torch.dtype], list[Case]]] = {
    "smoke": smoke,
    "goals": goals,
    "default": default,
    "all": everything,
}


def select(size: str, dtype: torch.dtype, op: str, shape: str) -> list[Case]:
    """The cases of a size whose op and whose model, shape and dtype two patterns are found in.

    Raises ValueError for a pattern that is none, and where no case is left.
    """
    by_op, by_shape = _compiled("--op", op), _compiled("--shape", shape)
    cases = SIZES[size](dtype)
    chosen = [case for case in cases if by_op.search(case.op)]
    if not chosen:
        ops = ", ".join(sorted({case.op for case in cases}))
        raise ValueError(f"--op: expected a pattern found in one of {ops}, got {op!r}")
    found = [case for case in chosen if by_shape.search(label(case))]
    if not found:
        raise ValueError(
            f"--shape: expected a pattern found in one of {len(chosen)} shapes, such as "
            f"{label(chosen[0])!r}, got {shape!r}"
        )
    return list({(case.op, label(case)): case for case in found}.values())


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{option}: expected a regular expression, got {pattern!r}") from error


def label(case: Case) -> str:
    return f"{case.model}, {case.shape}, {str(case.dtype).removeprefix('torch.')}"
