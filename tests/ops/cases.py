"""Random inputs of the ops: hypothesis picks the structure, a seeded generator the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ABSURD = [2**31 - 1, -(2**31), -1, 10**6]
"""Table entries that no op may follow."""


def int32(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int32)


@st.composite
def generators(draw: st.DrawFn) -> torch.Generator:
    return torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))


def random_parents(n_nodes: int, size: int, generator: torch.Generator) -> Tensor:
    """Parents [size] of a random tree: one of wide, deep and mixed. Beyond n_nodes: -1."""
    reach = int(torch.randint(1, 4, (), generator=generator))
    parents = torch.full((size,), -1, dtype=torch.int32)
    for node in range(1, n_nodes):
        low = {1: node - 1, 2: 0, 3: max(0, node - 4)}[reach]
        parents[node] = torch.randint(low, node, (), generator=generator)
    return parents


@dataclass
class PagedCase:
    """Requests with their pages: page_table [B, M] is valid exactly where positions < lengths."""

    page_size: int
    block_table: Tensor
    n_pages: int


def random_pages(lengths: list[int], page_size: int, generator: torch.Generator) -> PagedCase:
    """A shuffled page for each page's worth of positions; unused entries are absurd."""
    needed = [math.ceil(n / page_size) for n in lengths]
    n_pages = sum(needed) + 2
    pages = torch.randperm(n_pages, generator=generator, dtype=torch.int32)
    width = max(needed, default=0) + int(torch.randint(0, 3, (), generator=generator))
    table = torch.empty(len(lengths), max(width, 1), dtype=torch.int32)
    table.copy_(int32(ABSURD)[torch.randint(0, len(ABSURD), table.shape, generator=generator)])
    start = 0
    for b, count in enumerate(needed):
        table[b, :count] = pages[start : start + count]
        start += count
    return PagedCase(page_size, table, n_pages)


@dataclass
class AttentionCase:
    """Arguments of branch_attention, and the tree they came from."""

    q: Tensor
    k_cache: Tensor
    v_cache: Tensor
    block_table: Tensor
    context_lens: Tensor
    n_nodes: Tensor
    ancestor_mask: Tensor
    scale: float
    softcap: float
    window: int

    def arguments(self) -> tuple:
        return tuple(vars(self).values())


def _mask_of(parents: Tensor, n_rows: int) -> Tensor:
    """ancestor_mask [n_rows, W] of the last n_rows nodes of a tree."""
    bits = torch.eye(len(parents), dtype=torch.int64)
    for node in range(1, len(parents)):
        bits[node] |= bits[int(parents[node])]
    padded = torch.nn.functional.pad(bits, (0, -len(parents) % 32))
    return (padded.reshape(len(parents), -1, 32) << torch.arange(32)).sum(-1)[-n_rows:].int()


@st.composite
def attention_cases(draw: st.DrawFn) -> AttentionCase:
    generator = draw(generators())
    dtype = draw(st.sampled_from(DTYPES))
    kv_heads, group = draw(
        st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (4, 1), (1, 8)])
    )
    head_dim = draw(st.sampled_from([8, 16, 24, 40, 64, 128, 256]))
    size = draw(st.sampled_from([1, 2, 5, 8, 17, 33, 40]))
    lengths = draw(
        st.lists(st.tuples(st.integers(0, 70), st.integers(0, size)), min_size=1, max_size=4)
    )
    page_size = draw(st.sampled_from([1, 3, 16, 128]))
    n_rows = draw(st.integers(1, size))
    softcap = draw(st.sampled_from([0.0, 0.0, 5.0, 30.0]))
    window = draw(st.sampled_from([0, 0, 1, 3, 20, 200]))

    pages = random_pages([c + n for c, n in lengths], page_size, generator)
    shape = (pages.n_pages, page_size, kv_heads, head_dim)
    k_cache, v_cache = torch.full((2, *shape), math.nan, dtype=dtype)
    mask = torch.zeros(len(lengths), n_rows, math.ceil(size / 32), dtype=torch.int32)
    for b, (context, nodes) in enumerate(lengths):
        rows = min(n_rows, nodes)  # the newest nodes; further rows are padding and see no node
        if rows:
            words = _mask_of(random_parents(nodes, nodes, generator), rows)
            mask[b, :rows, : words.shape[1]] = words
        seen = _seen_by_some_row(context, nodes, mask[b], window)
        where = (pages.block_table[b][seen // page_size].long(), seen % page_size)
        for cache in (k_cache, v_cache):
            cache[where] = torch.randn(len(seen), kv_heads, head_dim, generator=generator).to(dtype)
    q = torch.randn(len(lengths), n_rows, kv_heads * group, head_dim, generator=generator).to(dtype)
    return AttentionCase(
        q=draw(st.sampled_from(HEAD_LAYOUTS))(q),
        k_cache=draw(st.sampled_from(HEAD_LAYOUTS))(k_cache),
        v_cache=draw(st.sampled_from(HEAD_LAYOUTS))(v_cache),
        block_table=draw(st.sampled_from(MATRIX_LAYOUTS))(pages.block_table),
        context_lens=int32([c for c, _ in lengths]),
        n_nodes=int32([n for _, n in lengths]),
        ancestor_mask=draw(st.sampled_from(MATRIX_LAYOUTS))(mask),
        scale=draw(st.sampled_from([head_dim**-0.5, 0.3])),
        softcap=softcap,
        window=window,
    )


def _seen_by_some_row(context: int, nodes: int, mask: Tensor, window: int) -> Tensor:
    """Logical positions that at least one row sees; all others stay poisoned."""
    seen: set[int] = set()
    for words in mask:
        bits = [j for j in range(nodes) if int(words[j // 32]) >> (j % 32) & 1]
        keys = [*range(context), *(context + j for j in bits)]
        seen.update(keys[-window:] if window else keys)
    return torch.tensor(sorted(seen), dtype=torch.int64)


@dataclass
class SamplingCase:
    """Rows of logits and their sampling parameters."""

    logits: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    position: Tensor

    def filters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.temperature, self.top_k, self.top_p, self.min_p

    def draws(self) -> tuple[Tensor, ...]:
        return (*self.filters(), self.seed, self.position)

    def row(self, r: int) -> tuple[Tensor, ...]:
        """The arguments of `sample` for one row."""
        return tuple(t[r : r + 1] for t in (self.logits, *self.draws()))


def choose(options: list[float], rows: int, generator: torch.Generator) -> Tensor:
    picks = torch.randint(0, len(options), (rows,), generator=generator)
    return torch.tensor(options)[picks]


def random_sampling_params(rows: int, vocab: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters of each row, each filter off about half of the time; extremes included."""
    return {
        "temperature": choose([0.0, 0.3, 0.7, 1.0, 1.0, 2.5], rows, generator),
        "top_k": choose([0, 0, 0, 1, 2, 5, vocab, vocab + 7], rows, generator).int(),
        "top_p": choose([1.0, 1.0, 1.0, 0.9, 0.5, 0.05], rows, generator),
        "min_p": choose([0.0, 0.0, 0.0, 0.02, 0.3, 1.0], rows, generator),
        "seed": torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator),
        "position": torch.randint(0, 2**31 - 1, (rows,), generator=generator, dtype=torch.int32),
    }


def random_logits(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Normal logits of various spread; every fourth row has ties, every fifth has -inf entries."""
    rows = torch.randn(math.prod(shape[:-1]), shape[-1], generator=generator)
    rows *= choose([0.1, 1.0, 3.0, 8.0], len(rows), generator)[:, None]
    rows[::4] = (rows[::4] * 2).round() / 2
    banned = torch.rand(rows[::5].shape, generator=generator) < 0.3
    banned[:, 0] = False
    rows[::5] = rows[::5].masked_fill(banned, -math.inf)
    return rows.reshape(shape)


@st.composite
def sampling_cases(draw: st.DrawFn, max_vocab: int = 300) -> SamplingCase:
    generator = draw(generators())
    vocab = draw(st.one_of(st.integers(1, 40), st.integers(1, max_vocab)))
    rows = draw(st.integers(1, 6))
    logits = random_logits((rows, vocab), generator).to(draw(st.sampled_from(DTYPES)))
    return SamplingCase(
        logits=draw(st.sampled_from(MATRIX_LAYOUTS))(logits),
        **random_sampling_params(rows, vocab, generator),
    )
