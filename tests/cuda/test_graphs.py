"""Ops in CUDA graphs: captured once, replayed with other lengths and numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bench.gpu import captured
from specbranch import ops, reference
from tests.cuda.on_device import GPU
from tests.ops.calls import CALLS, FUNCTIONAL, ON_CUDA, Arguments
from tests.ops.cases import AttentionCase, int32, mask_of

WORKSPACE_FLOATS = 1 << 22
IN_GRAPHS = [name for name in ON_CUDA if name not in FUNCTIONAL]
OTHER_LENGTHS: dict[str, Arguments] = {
    "tree_mask_out": {
        "parents": int32([[-1, 0, 1, 2], [-1, 0, 0, 0]]),
        "n_nodes": int32([2, 4]),
        "row_indptr": int32([0, 1, 4]),
    },
    "append_kv_": {"start": int32([0, 3]), "row_indptr": int32([0, 0, 3])},
    "rope_append_kv_": {
        "start": int32([0, 3]),
        "row_indptr": int32([0, 0, 3]),
        "position_ids": int32([0, 39, 7, 8, 9]),
    },
    "fused_add_rms_norm": {"x": torch.ones(5, 48), "residual": torch.zeros(5, 48)},
    "rms_norm_out": {"x": torch.arange(240.0).view(5, 48)},
    "silu_and_mul_out": {"x": torch.arange(240.0).view(5, 48) - 120},
    "gelu_tanh_and_mul_out": {"x": torch.arange(240.0).view(5, 48) - 120},
    "branch_attention_out": {
        "context_lens": int32([8, 1]),
        "n_nodes": int32([2, 4]),
        "row_indptr": int32([0, 1, 4]),
    },
    "compact_kv_": {
        "context_lens": int32([6, 0]),
        "keep": int32([[1, 2, 0], [0, 1, 3]]),
        "keep_lens": int32([2, 3]),
    },
    "sampling_probs_out": {"temperature": torch.tensor([1.3, 0.0]), "top_k": int32([0, 3])},
    "sample_out": {"seed": torch.tensor([-9, 12]), "position": int32([100, 3])},
    "draft_topk_out": {"seed": torch.tensor([-9, 12]), "position": int32([100, 3])},
    "verify_tree_out": {
        "n_nodes": int32([2, 4]),
        "row_indptr": int32([0, 1, 4]),
        "position": int32([1, 90]),
    },
}


def on_gpu(arguments: Arguments) -> Arguments:
    return tree_map_only(Tensor, lambda t: t.to(GPU), arguments)


def with_workspace(name: str, arguments: Arguments) -> Arguments:
    parameters = [a.name for a in getattr(torch.ops.specbranch, name).default._schema.arguments]
    if "workspace" not in parameters:
        return arguments
    return {**arguments, "workspace": torch.zeros(WORKSPACE_FLOATS, device=GPU)}


def refill(static: Arguments, values: Arguments) -> None:
    """Put other numbers into the memory of captured arguments."""
    for name, value in values.items():
        for old, new in zip(tree_leaves(static[name]), tree_leaves(value), strict=True):
            if isinstance(old, Tensor):
                old.copy_(new)


def assert_same(actual: Any, expected: Any) -> None:
    for ours, wanted in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        if isinstance(wanted, Tensor):
            torch.testing.assert_close(ours.cpu(), wanted, rtol=2e-5, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_a_graph_follows_lengths_and_numbers(name):
    """Each replay gives what the op gives on the CPU for what the memory then holds."""
    op = getattr(ops, name)
    static = with_workspace(name, on_gpu(CALLS[name]()))
    graph = captured(lambda: op(**static))
    for changes in (OTHER_LENGTHS[name], {}, OTHER_LENGTHS[name]):
        values = {**CALLS[name](), **changes}
        refill(static, values)
        graph.replay()
        op(**values)
        assert_same({n: static[n] for n in values}, values)


def chain_over_a_context(nodes: int, max_context: int, dtype: torch.dtype) -> AttentionCase:
    """One request whose context may be anything up to max_context."""
    generator = torch.Generator().manual_seed(0)
    page_size = 16
    pages = -(-(max_context + nodes) // page_size)
    shape = (pages, page_size, 2, 64)
    chain = torch.arange(-1, nodes - 1, dtype=torch.int32)
    return AttentionCase(
        q=torch.randn(nodes, 8, 64, generator=generator).to(dtype),
        k_cache=torch.randn(shape, generator=generator).to(dtype),
        v_cache=torch.randn(shape, generator=generator).to(dtype),
        block_table=torch.randperm(pages, generator=generator, dtype=torch.int32)[None],
        context_lens=int32([max_context]),
        n_nodes=int32([nodes]),
        row_indptr=int32([0, nodes]),
        ancestor_mask=mask_of(chain, nodes),
        scale=0.125,
        softcap=0.0,
        window=0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_a_graph_follows_contexts_from_none_to_many_splits(dtype):
    case = chain_over_a_context(nodes=8, max_context=6000, dtype=dtype)
    static = [t.to(GPU) if isinstance(t, Tensor) else t for t in case.arguments()]
    out, lse = torch.empty_like(static[0]), torch.empty(8, 8, device=GPU)
    workspace = torch.zeros(WORKSPACE_FLOATS, device=GPU)
    graph = captured(lambda: ops.branch_attention_out(*static, out, lse, workspace))
    for context in (6000, 0, 17, 4000, 63):
        case.context_lens = int32([context])
        static[4].copy_(case.context_lens)
        graph.replay()
        wanted, wanted_lse = reference.branch_attention(*case.arguments())
        tolerance = 2e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(out.cpu().double(), wanted, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(lse.cpu().double(), wanted_lse, rtol=1e-5, atol=2e-5)


def allocations() -> int:
    return torch.cuda.memory_stats()["allocation.all.allocated"]


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_nothing_is_allocated(name):
    op, arguments = getattr(ops, name), with_workspace(name, on_gpu(CALLS[name]()))
    op(**arguments)
    before = allocations()
    for _ in range(3):
        op(**arguments)
    assert allocations() == before


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_no_op_waits_for_the_gpu(name):
    op, arguments = getattr(ops, name), with_workspace(name, on_gpu(CALLS[name]()))
    op(**arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        op(**arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
