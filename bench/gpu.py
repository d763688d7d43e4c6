"""Inputs of the ops at real shapes, and the time that a GPU takes for them.

Each function takes shapes and returns a function that, given a device, makes the inputs there and
returns the call to time. Calls allocate nothing, so that a CUDA graph can hold them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from bench.floors import Heads, words
from specbranch import ops

Call = Callable[[], None]
MakeCall = Callable[[torch.device], Call]

DTYPE = torch.bfloat16
PAGE_SIZE = 64
COLD = 256 << 20
"""Bytes written before each timed call: more than any L2 holds."""


def captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A graph of one call, which runs once before, so that libraries are set up."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def seconds_of(call: Call, *, rounds: int = 30) -> float:
    """Median time of one call in a replayed CUDA graph, with nothing of it in L2."""
    graph = captured(call)
    flushed = torch.empty(COLD, dtype=torch.uint8, device="cuda")
    events = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flushed.zero_()
        start.record()
        graph.replay()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events) / 1e3


def copy_bandwidth(num_bytes: int = 1 << 30) -> float:
    """Bytes/s, read and written, of a large copy."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device="cuda")
    destination = torch.empty_like(source)

    def copy() -> None:
        destination.copy_(source)

    return 2 * num_bytes / seconds_of(copy)


def ints(device: torch.device, values: list[int] | range) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32, device=device)


def block_table(device: torch.device, batch: int, length: int) -> Tensor:
    """int32 [B, M]: shuffled pages for `length` positions of each request."""
    pages = math.ceil(length / PAGE_SIZE)
    order = torch.randperm(batch * pages, dtype=torch.int32)
    return order.reshape(batch, pages).to(device)


def cache(device: torch.device, heads: Heads, table: Tensor) -> Tensor:
    """[P, S, Hkv, D]"""
    shape = (table.numel(), PAGE_SIZE, heads.num_kv_heads, heads.head_dim)
    return torch.randn(shape, dtype=DTYPE, device=device)


def workspace(device: torch.device, floats: int = 1 << 24) -> Tensor:
    return torch.zeros(floats, device=device)


def attention(heads: Heads, batch: int, context: int, rows: int) -> MakeCall:
    """One row a branch, all of them children of the root."""

    def make(device: torch.device) -> Call:
        table = block_table(device, batch, context + rows)
        k_cache, v_cache = cache(device, heads, table), cache(device, heads, table)
        shape = (batch, rows, heads.num_qo_heads, heads.head_dim)
        q = torch.randn(shape, dtype=DTYPE, device=device)
        parents = ints(device, [-1] + [0] * (rows - 1)).expand(batch, rows)
        n_nodes = ints(device, [rows] * batch)
        mask, _ = ops.tree_mask(parents, n_nodes)
        inputs = (q, k_cache, v_cache, table, ints(device, [context] * batch), n_nodes, mask)
        out, lse = torch.empty_like(q), torch.empty(shape[:3], device=device)
        scale, scratch = heads.head_dim**-0.5, workspace(device)
        return lambda: ops.branch_attention_out(*inputs, scale, 0.0, 0, out, lse, scratch)

    return make


def append(heads: Heads, batch: int, tokens: int) -> MakeCall:
    def make(device: torch.device) -> Call:
        table = block_table(device, batch, 1024)
        caches = cache(device, heads, table), cache(device, heads, table)
        shape = (batch, tokens, heads.num_kv_heads, heads.head_dim)
        k, v = torch.randn(2, *shape, dtype=DTYPE, device=device)
        start, n_tokens = ints(device, [500] * batch), ints(device, [tokens] * batch)
        return lambda: ops.append_kv_(k, v, *caches, table, start, n_tokens)

    return make


def compact(heads: Heads, layers: int, batch: int, moved: int) -> MakeCall:
    """Keeps every other node from the third on."""

    def make(device: torch.device) -> Call:
        table = block_table(device, batch, 1024)
        k_caches = [cache(device, heads, table) for _ in range(layers)]
        v_caches = [cache(device, heads, table) for _ in range(layers)]
        kept = ints(device, range(2, 2 * moved + 2, 2)).repeat(batch, 1)
        lengths = ints(device, [500] * batch), kept, ints(device, [moved] * batch)
        return lambda: ops.compact_kv_(k_caches, v_caches, table, *lengths)

    return make


def tree_mask(batch: int, nodes: int) -> MakeCall:
    def make(device: torch.device) -> Call:
        parents = ints(device, [(i - 1) // 2 if i else -1 for i in range(nodes)])
        parents = parents.repeat(batch, 1)
        n_nodes = ints(device, [nodes] * batch)
        mask = torch.empty(batch, nodes, words(nodes), dtype=torch.int32, device=device)
        depth = torch.empty_like(parents)
        return lambda: ops.tree_mask_out(parents, n_nodes, mask, depth)

    return make


def logits_of(device: torch.device, *shape: int) -> Tensor:
    return (torch.randn(shape, device=device) * 3).to(DTYPE)


def filters(device: torch.device, rows: int, temperature: float = 1.0) -> tuple[Tensor, ...]:
    """Temperature alone."""
    return (
        torch.full((rows,), temperature, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
        torch.ones(rows, device=device),
        torch.zeros(rows, device=device),
    )


def draws(device: torch.device, rows: int, temperature: float = 1.0) -> tuple[Tensor, ...]:
    """Filters, seeds and positions."""
    seed = torch.full((rows,), 7, device=device)
    return (*filters(device, rows, temperature), seed, ints(device, range(100, 100 + rows)))


def sample(rows: int, vocab: int) -> MakeCall:
    def make(device: torch.device) -> Call:
        inputs = logits_of(device, rows, vocab), *draws(device, rows)
        ids, scratch = ints(device, range(rows)), workspace(device)
        return lambda: ops.sample_out(*inputs, ids, scratch)

    return make


def draft_topk(rows: int, vocab: int, k: int) -> MakeCall:
    def make(device: torch.device) -> Call:
        logits, laws = logits_of(device, rows, vocab), draws(device, rows)
        ids = torch.empty(rows, k, dtype=torch.int32, device=device)
        estimates = torch.empty(rows, k, device=device)
        max_prob, entropy = torch.empty(2, rows, device=device)
        results = ids, estimates, max_prob, entropy, workspace(device)
        return lambda: ops.draft_topk_out(logits, k, *laws, "gumbel", None, *results)

    return make


def sampling_probs(rows: int, vocab: int) -> MakeCall:
    def make(device: torch.device) -> Call:
        inputs = logits_of(device, rows, vocab), *filters(device, rows)
        probs, scratch = torch.empty(rows, vocab, device=device), workspace(device)
        return lambda: ops.sampling_probs_out(*inputs, probs, scratch)

    return make


def verify_tree(coupling: str, batch: int, nodes: int, visited: int, vocab: int) -> MakeCall:
    """Chains of right guesses, but for the one that the walk is to end at."""

    def make(device: torch.device) -> Call:
        temperature = 0.0 if coupling == "greedy" else 1.0
        logits = logits_of(device, batch, nodes, vocab)
        flat = draws(device, batch * nodes, temperature)
        position = ints(device, range(100, 100 + nodes)).repeat(batch)
        chosen = ops.sample(logits.flatten(0, 1), *flat[:-1], position).reshape(batch, nodes)
        candidates = chosen.roll(1, dims=1)
        parents = ints(device, range(-1, nodes - 1)).repeat(batch, 1)
        sizes = ints(device, [nodes] * batch)
        laws: tuple[Tensor | None, Tensor | None] = (None, None)
        if coupling == "rejection":
            draw = torch.ones(batch, nodes, dtype=torch.uint8, device=device)
            laws = logits.float().softmax(-1), draw
        last = logits[:, visited - 1]
        last.scatter_(1, chosen[:, visited - 1 : visited].long(), -math.inf)

        own = *draws(device, batch, temperature)[:-1], ints(device, [100] * batch)
        path = torch.empty_like(candidates)
        results = [torch.empty_like(sizes) for _ in range(4)]
        inputs = (candidates, parents, sizes, sizes, logits, *own, *laws)
        scratch = workspace(device)
        return lambda: ops.verify_tree_out(*inputs, path, *results, scratch)

    return make
