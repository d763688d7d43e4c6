"""`append_kv_` and `compact_kv_`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench import floors
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, OURS, Case, Way
from bench.ops.inputs import block_table, cache, cache_bytes, ints, rows_of_each, slots
from specbranch import ops

CONTEXT = 50
"""Tokens before what is written or moved; their number changes nothing."""
LENGTH = 256


@dataclass(frozen=True, slots=True)
class AppendInputs:
    """k, v [B * tokens, Hkv, D]; caches [P, S, Hkv, D]; table [B, M]."""

    k: Tensor
    v: Tensor
    k_cache: Tensor
    v_cache: Tensor
    table: Tensor


def append_kv(model: Model, dtype: torch.dtype, batch: int, tokens: int) -> Case:
    heads = model.heads_of(dtype)

    def inputs(device: torch.device) -> AppendInputs:
        table = block_table(device, batch, LENGTH)
        shape = (batch * tokens, heads.num_kv_heads, heads.head_dim)
        k, v = torch.randn(2, *shape, dtype=dtype, device=device)
        return AppendInputs(k, v, cache(table, heads, dtype), cache(table, heads, dtype), table)

    return Case(
        op="append_kv_",
        model=model.name,
        params={"batch": batch, "tokens": tokens},
        dtype=dtype,
        work=floors.append_kv(heads, batch=batch, tokens=tokens),
        memory=cache_bytes(heads, batch, LENGTH),
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _append),
            Way(EAGER, "eager", _index_copy),
        ),
    )


def _append(x: AppendInputs) -> Call:
    device, batch = x.k.device, len(x.table)
    lengths = ints(device, [CONTEXT] * batch), rows_of_each(device, batch, len(x.k) // batch)
    inputs = (x.k, x.v, x.k_cache, x.v_cache, x.table, *lengths)
    return lambda: ops.append_kv_(*inputs)


def _index_copy(x: AppendInputs) -> Call:
    """A copy for the keys and one for the values, to places that are known beforehand."""
    tokens = torch.arange(len(x.k) // len(x.table), device=x.k.device)
    where = slots(x.table, CONTEXT + tokens)
    k_cache, v_cache = x.k_cache.flatten(0, 1), x.v_cache.flatten(0, 1)

    def call() -> None:
        k_cache.index_copy_(0, where, x.k)
        v_cache.index_copy_(0, where, x.v)

    return call


@dataclass(frozen=True, slots=True)
class CompactionInputs:
    """Caches [P, S, Hkv, D], one a layer; table [B, M]; keep: nodes of each draft block."""

    k_caches: list[Tensor]
    v_caches: list[Tensor]
    table: Tensor
    keep: list[int]

    def places(self) -> tuple[Tensor, Tensor]:
        """int64 [B * J] each: where what is kept lies, and where it goes."""
        kept = torch.tensor(self.keep, device=self.table.device)
        index = torch.arange(len(kept), device=self.table.device)
        return slots(self.table, CONTEXT + kept), slots(self.table, CONTEXT + index)


def compact_kv(model: Model, dtype: torch.dtype, batch: int, moved: int) -> Case:
    """Every other node from the second on."""
    heads, layers = model.heads_of(dtype), model.layers

    def inputs(device: torch.device) -> CompactionInputs:
        table = block_table(device, batch, LENGTH)
        k_caches, v_caches = ([cache(table, heads, dtype) for _ in range(layers)] for _ in range(2))
        return CompactionInputs(k_caches, v_caches, table, list(range(2, 2 * moved + 2, 2)))

    return Case(
        op="compact_kv_",
        model=model.name,
        params={"batch": batch, "moved": moved, "layers": layers},
        dtype=dtype,
        work=floors.compact_kv(heads, layers=layers, batch=batch, moved=moved),
        memory=layers * cache_bytes(heads, batch, LENGTH),
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _compact),
            Way(EAGER, "eager", _select_and_copy),
        ),
    )


def _compact(x: CompactionInputs) -> Call:
    device, batch = x.table.device, len(x.table)
    lengths = (
        ints(device, [CONTEXT] * batch),
        ints(device, [x.keep] * batch),
        ints(device, [len(x.keep)] * batch),
    )
    return lambda: ops.compact_kv_(x.k_caches, x.v_caches, x.table, *lengths)


def _select_and_copy(x: CompactionInputs) -> Call:
    """Of each layer, a gather and a copy for the keys and for the values."""
    source, destination = x.places()
    layers = [layer.flatten(0, 1) for layer in (*x.k_caches, *x.v_caches)]

    def call() -> None:
        for layer in layers:
            layer.index_copy_(0, destination, layer.index_select(0, source))

    return call
