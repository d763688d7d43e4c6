"""Random inputs of the ops: hypothesis picks the structure, a seeded generator the numbers."""

from __future__ import annotations

import itertools
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


def row_indptr_of(rows: list[int]) -> Tensor:
    """int32 [B + 1] of the number of rows of each request."""
    return int32([0, *itertools.accumulate(rows)])


@dataclass
class AttentionCase:
    """Arguments of branch_attention, in its order."""

    q: Tensor
    k_cache: Tensor
    v_cache: Tensor
    block_table: Tensor
    context_lens: Tensor
    n_nodes: Tensor
    row_indptr: Tensor
    ancestor_mask: Tensor
    scale: float
    softcap: float
    window: int
    split_size: int = 0

    def arguments(self) -> tuple:
        return tuple(vars(self).values())

    @property
    def n_rows(self) -> int:
        """Of all requests; what follows is padding."""
        return int(self.row_indptr[-1])


def mask_of(parents: Tensor, n_rows: int) -> Tensor:
    """ancestor_mask [n_rows, W] of the last n_rows nodes of a tree."""
    bits = torch.eye(len(parents), dtype=torch.int64)
    for node in range(1, len(parents)):
        bits[node] |= bits[int(parents[node])]
    padded = torch.nn.functional.pad(bits, (0, -len(parents) % 32))
    words = (padded.reshape(len(parents), -1, 32) << torch.arange(32)).sum(-1)
    return words[len(parents) - n_rows :].int()


@st.composite
def ragged_batches(
    draw: st.DrawFn, max_nodes: int, max_context: int = 70
) -> list[tuple[int, int, int]]:
    """Context, nodes and rows of each request: few that may be long or up to 64 that are short."""
    few = st.tuples(st.integers(1, 4), st.just(max_context), st.just(max_nodes))
    many = st.tuples(st.integers(5, 64), st.just(5), st.just(min(max_nodes, 3)))
    size, longest, most = draw(st.one_of(few, few, many))
    generator = draw(generators())
    batch = []
    for _ in range(size):
        context, nodes = (
            int(torch.randint(0, n + 1, (), generator=generator)) for n in (longest, most)
        )
        has_rows = int(torch.randint(0, 4, (), generator=generator)) > 0
        rows = int(torch.randint(0, nodes + 1, (), generator=generator)) if has_rows else 0
        batch.append((context, nodes, rows))
    return batch


@st.composite
def attention_cases(draw: st.DrawFn) -> AttentionCase:
    generator = draw(generators())
    dtype = draw(st.sampled_from(DTYPES))
    kv_heads, group = draw(
        st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (4, 1), (1, 8)])
    )
    head_dim = draw(st.sampled_from([8, 16, 24, 40, 64, 128, 256]))
    size = draw(st.sampled_from([1, 2, 5, 8, 17, 33, 40, 70]))
    batch = draw(ragged_batches(size))
    page_size = draw(st.sampled_from([1, 3, 16, 128]))
    padding = draw(st.integers(0, 3))
    softcap = draw(st.sampled_from([0.0, 0.0, 5.0, 30.0]))
    window = draw(st.sampled_from([0, 0, 1, 3, 20, 200]))

    lengths = [context + nodes if rows else 0 for context, nodes, rows in batch]
    pages = random_pages(lengths, page_size, generator)
    shape = (pages.n_pages, page_size, kv_heads, head_dim)
    k_cache, v_cache = torch.full((2, *shape), math.nan, dtype=dtype)
    row_indptr = row_indptr_of([rows for _, _, rows in batch])
    n_rows = int(row_indptr[-1])
    mask = torch.zeros(n_rows + padding, math.ceil(size / 32), dtype=torch.int32)
    mask[n_rows:] = 2**31 - 1
    for b, (context, nodes, rows) in enumerate(batch):
        if rows == 0:
            continue
        words = mask[row_indptr[b] : row_indptr[b + 1]]
        tree = mask_of(random_parents(nodes, nodes, generator), rows)
        words[:, : tree.shape[1]] = tree
        seen = _seen_by_some_row(context, nodes, words, window)
        _forget_pages_before(pages, b, min(context, int(seen[0])))
        where = (pages.block_table[b][seen // page_size].long(), seen % page_size)
        for cache in (k_cache, v_cache):
            cache[where] = torch.randn(len(seen), kv_heads, head_dim, generator=generator).to(dtype)
    q = torch.randn(len(mask), kv_heads * group, head_dim, generator=generator).to(dtype)
    q[n_rows:] = math.nan
    return AttentionCase(
        q=draw(st.sampled_from(HEAD_LAYOUTS))(q),
        k_cache=draw(st.sampled_from(HEAD_LAYOUTS))(k_cache),
        v_cache=draw(st.sampled_from(HEAD_LAYOUTS))(v_cache),
        block_table=draw(st.sampled_from(MATRIX_LAYOUTS))(pages.block_table),
        context_lens=int32([context for context, _, _ in batch]),
        n_nodes=int32([nodes for _, nodes, _ in batch]),
        row_indptr=row_indptr,
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


def _forget_pages_before(pages: PagedCase, b: int, first: int) -> None:
    """Engines free the pages that a window has left behind."""
    pages.block_table[b, : first // pages.page_size] = ABSURD[1]


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


def random_allowed(logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A bitmask int32 [R, ceil(V / 32)], with any bits behind the end; the logits with NaN for what
    is not allowed, which does not matter; and with -inf, as the ops are to see them."""
    rows, vocab = logits.shape
    share = choose([0.02, 0.3, 0.3, 0.8, 1.0], rows, generator)[:, None]
    bits = torch.rand(rows, -(-vocab // 32) * 32, generator=generator) < share
    words = (bits.unflatten(1, (-1, 32)).long() << torch.arange(32)).sum(-1).int()
    outside = ~bits[:, :vocab]
    return words, logits.masked_fill(outside, math.nan), logits.masked_fill(outside, -math.inf)


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
