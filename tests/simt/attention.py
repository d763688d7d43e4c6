"""branch_attention on the simulated device."""

from __future__ import annotations

import ctypes
import math
from ctypes import c_float, c_uint8, c_void_p

import torch
from torch import Tensor

from specbranch import reference
from tests.ops.cases import (
    AttentionCase,
    int32,
    random_pages,
    random_parents,
    row_indptr_of,
)
from tests.simt.device import Schedule, Traffic, device
from tests.simt.params import BlockTable, KvStrides, RowStrides, integers, pointers
from tests.simt.workspace import Workspace, WorkspaceNeed

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


class BranchAttentionParams(ctypes.Structure):
    _fields_ = [
        ("dtype", c_uint8),
        *pointers("q", "k_cache", "v_cache"),
        ("q_strides", RowStrides),
        ("k_strides", KvStrides),
        ("v_strides", KvStrides),
        ("block_table", BlockTable),
        *pointers("context_lens", "n_nodes", "row_indptr", "ancestor_mask"),
        *integers("mask_stride", "batch_size", "num_rows"),
        *integers("num_qo_heads", "num_kv_heads", "head_dim", "max_positions"),
        ("scale", c_float),
        ("softcap", c_float),
        *integers("window", "split_size"),
        *pointers("out", "lse"),
        ("out_strides", RowStrides),
        ("lse_strides", RowStrides),
        ("workspace", c_void_p),
    ]

    @classmethod
    def of(cls, case: AttentionCase, out: Tensor, lse: Tensor) -> BranchAttentionParams:
        page_size = case.k_cache.shape[1]
        num_rows, num_qo_heads, head_dim = case.q.shape
        lengths = (case.context_lens, case.n_nodes, case.row_indptr)
        return cls(
            DTYPES[case.q.dtype],
            *(t.data_ptr() for t in (case.q, case.k_cache, case.v_cache)),
            RowStrides.of(case.q),
            KvStrides.of(case.k_cache),
            KvStrides.of(case.v_cache),
            BlockTable.of(case.block_table, page_size),
            *(t.data_ptr() for t in (*lengths, case.ancestor_mask)),
            case.ancestor_mask.stride(0),
            *(len(case.n_nodes), num_rows, num_qo_heads, case.k_cache.shape[2], head_dim),
            case.block_table.shape[1] * page_size,
            *(case.scale, case.softcap, case.window, case.split_size),
            *(out.data_ptr(), lse.data_ptr()),
            RowStrides.of(out),
            RowStrides.of(lse),
        )


def make_case(
    dtype: torch.dtype,
    *,
    contexts: tuple[int, ...],
    nodes: tuple[int, ...],
    rows: tuple[int, ...],
    padding: int = 0,
    heads: tuple[int, int] = (4, 2),
    head_dim: int = 64,
    page_size: int = 16,
    softcap: float = 0.0,
    window: int = 0,
    split_size: int = 0,
    seed: int = 0,
) -> AttentionCase:
    """Requests with room for `contexts`, of which they may use less."""
    generator = torch.Generator().manual_seed(seed)
    size = max(*nodes, 1)
    pages = random_pages(
        [c + n for c, n in zip(contexts, nodes, strict=True)], page_size, generator
    )
    parents = torch.stack([random_parents(n, size, generator) for n in nodes])
    row_indptr, num_rows = row_indptr_of(list(rows)), sum(rows) + padding
    mask, _ = reference.tree_mask(parents, int32(nodes), row_indptr, num_rows)
    cache = (pages.n_pages, page_size, heads[1], head_dim)
    return AttentionCase(
        q=torch.randn(num_rows, heads[0], head_dim, generator=generator).to(dtype),
        k_cache=torch.randn(cache, generator=generator).to(dtype),
        v_cache=torch.randn(cache, generator=generator).to(dtype),
        block_table=pages.block_table,
        context_lens=int32(contexts),
        n_nodes=int32(nodes),
        row_indptr=row_indptr,
        ancestor_mask=mask,
        scale=head_dim**-0.5,
        softcap=softcap,
        window=window,
        split_size=split_size,
    )


class Launch:
    """A launch whose inputs may be overwritten, and which may be repeated, as a CUDA graph."""

    def __init__(self, case: AttentionCase, num_multiprocessors: int) -> None:
        self._device = device("branch_attention")
        self._device.reset()
        self.case = AttentionCase(
            **{
                name: self._device.place(value, name) if isinstance(value, Tensor) else value
                for name, value in vars(case).items()
            }
        )
        out = torch.full(case.q.shape, math.nan, dtype=case.q.dtype)
        self.out = self._device.place(out, "out", writable=True)
        self.lse = self._device.place(torch.full(out.shape[:-1], math.nan), "lse", writable=True)
        self._params = BranchAttentionParams.of(self.case, self.out, self.lse)
        self._num_multiprocessors = num_multiprocessors

        self._need, splits = WorkspaceNeed(), torch.zeros(1, dtype=torch.int32)
        self._call("branch_attention_plan", self._need, splits)
        self.max_splits = int(splits)
        self._workspace = Workspace(self._device, self._need)
        self._workspace.allow(self._need)

    def run(self, schedule: Schedule, kernel: str = "branch_attention") -> tuple[Tensor, Tensor]:
        """out, lse"""
        for result in (self.out, self.lse):
            result.fill_(math.nan)
        self._device.set_schedule(schedule)
        self._call(kernel, self._need, self._workspace.memory)
        assert not self._workspace.tickets(self._need).any()
        return self.out.clone(), self.lse.clone()

    def count(self, kernel: str = "branch_attention") -> Traffic:
        """The transactions of one run."""
        counted: list[Traffic] = []
        with self._device.counting(counted):
            self.run(Schedule(), kernel)
        return counted[0]

    def _call(self, function: str, *arguments: ctypes.Structure | Tensor) -> None:
        self._device.call(function, self._params, self._num_multiprocessors, *arguments)
