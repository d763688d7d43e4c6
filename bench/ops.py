"""The ops against the eager torch chains they replace: `python -m bench.ops --out FILE.json`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from bench.measure import Timing, copy_of, take_turns
from specbranch import build_info, ops

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Case:
    """One op at one shape, what it replaces, and the bytes that must move."""

    op: str
    shape: str
    contenders: dict[str, Callable[[], object]]
    floor_bytes: int = 0


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def attention_case(
    branches: int, context: int, num_qo_heads: int, num_kv_heads: int, head_dim: int
) -> Case:
    """One row per branch over a shared context, against SDPA in two layouts."""
    page_size = 64
    pages = math.ceil((context + branches) / page_size)
    length = context + branches
    k_cache, v_cache = torch.randn(2, pages, page_size, num_kv_heads, head_dim).unbind()
    q = torch.randn(1, branches, num_qo_heads, head_dim)
    block_table = torch.arange(pages, dtype=torch.int32)[None]
    mask = (1 << torch.arange(branches, dtype=torch.int32))[None, :, None]
    out, lse = torch.empty_like(q), torch.empty(1, branches, num_qo_heads)
    scale = head_dim**-0.5

    def keys(cache: torch.Tensor) -> torch.Tensor:
        """[1, Hkv, length, D]"""
        flat = cache.reshape(1, -1, num_kv_heads, head_dim)[:, :length]
        return flat.transpose(1, 2).contiguous()

    k, v = keys(k_cache), keys(v_cache)
    group = num_qo_heads // num_kv_heads

    def expanded(x: torch.Tensor) -> torch.Tensor:
        """[branches, Hq, context + 1, D]: every branch with a context of its own"""
        own = [
            torch.cat([x[:, :, :context], x[:, :, context + b : context + b + 1]], 2)
            for b in range(branches)
        ]
        return torch.cat(own).repeat_interleave(group, 1).contiguous()

    k_expanded, v_expanded = expanded(k), expanded(v)
    visible = torch.ones(branches, length, dtype=torch.bool)
    visible[:, context:] = torch.eye(branches, dtype=torch.bool)
    args = (q, k_cache, v_cache, block_table, ints(context), ints(branches), mask, scale)
    packed = q.transpose(1, 2)
    one_row_each = q[0, :, :, None]
    return Case(
        "branch_attention",
        f"{branches} branches, context {context}, heads {num_qo_heads}/{num_kv_heads}, "
        f"D {head_dim}, fp32",
        {
            OURS: lambda: ops.branch_attention_out(*args, 0.0, 0, out, lse),
            "SDPA, K/V expanded": lambda: F.scaled_dot_product_attention(
                one_row_each, k_expanded, v_expanded, scale=scale
            ),
            "SDPA, packed and masked": lambda: F.scaled_dot_product_attention(
                packed, k, v, attn_mask=visible, scale=scale, enable_gqa=True
            ),
        },
        floor_bytes=2 * num_kv_heads * head_dim * 4 * length,
    )


def filters(rows: int, temperature: float, top_k: int, top_p: float) -> tuple[torch.Tensor, ...]:
    return (
        torch.full((rows,), temperature),
        torch.full((rows,), top_k, dtype=torch.int32),
        torch.full((rows,), top_p),
        torch.zeros(rows),
    )


def eager_law(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """softmax after top-k and top-p, as sampling code usually has it."""
    if top_k:
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -math.inf)
    if top_p < 1:
        ranked, order = logits.softmax(-1).sort(descending=True)
        beyond = ranked.cumsum(-1) - ranked >= top_p
        logits = logits.masked_fill(beyond.scatter(1, order, beyond), -math.inf)
    return logits.softmax(-1)


def verify_case(coupling: str, nodes: int, vocab: int, top_k: int = 0, top_p: float = 1.0) -> Case:
    """A chain of sampled guesses, against the eager verification of the same chain.

    The draft's law is the target's own, so every guess is accepted and every row is visited.
    """
    logits = torch.randn(1, nodes, vocab) * 3
    laws = eager_law(logits[0], top_k, top_p)
    guesses = laws.multinomial(1)[:, 0]
    seed, position = torch.tensor([7]), ints(100)
    if coupling == "gumbel":
        rows = (*filters(nodes, 1.0, top_k, top_p), seed.expand(nodes).contiguous())
        guesses = ops.sample(logits[0], *rows, ints(*range(100, 100 + nodes))).long()
    candidates = torch.cat([torch.zeros(1), guesses[:-1]]).to(torch.int32)[None]
    parents = torch.arange(-1, nodes - 1, dtype=torch.int32)[None]
    tree = (candidates, parents, ints(nodes), ints(nodes))
    draw = torch.ones(1, nodes, dtype=torch.uint8)
    rejection = (laws[None].contiguous(), draw) if coupling == "rejection" else (None, None)

    def eager_rejection() -> int:
        p = eager_law(logits[0], top_k, top_p)
        tested = torch.arange(nodes - 1)
        ratio = p[tested, guesses[:-1]] / laws[tested, guesses[:-1]]
        accepted = int((torch.rand(nodes - 1) < ratio).cumprod(0).sum())
        residual = p[accepted]
        if accepted < nodes - 1:
            residual = (residual - laws[accepted]).clamp_min(0)
        return int(residual.multinomial(1))

    def eager_sampling() -> int:
        chosen = eager_law(logits[0], top_k, top_p).multinomial(1)[:, 0]
        accepted = int((chosen[:-1] == guesses[:-1]).cumprod(0).sum())
        return int(chosen[accepted])

    eager = eager_rejection if coupling == "rejection" else eager_sampling
    name = f"{nodes} nodes, V {vocab}" + (f", top-k {top_k}, top-p {top_p}" if top_k else "")
    return Case(
        f"verify_tree, {coupling}",
        name,
        {
            OURS: lambda: ops.verify_tree(
                *tree, logits, *filters(1, 1.0, top_k, top_p), seed, position, *rejection
            ),
            "eager chain": eager,
        },
        floor_bytes=nodes * vocab * 4,
    )


def draft_case(rows: int, vocab: int) -> Case:
    """Four ranked guesses a row, against softmax, topk and entropy in eager torch."""
    logits = torch.randn(rows, vocab) * 3
    seed, position = torch.full((rows,), 7), torch.full((rows,), 9, dtype=torch.int32)

    def eager() -> object:
        law = logits.softmax(-1)
        noise = -torch.empty_like(logits).exponential_().log()
        ranked = (logits + noise).topk(4)
        return ranked, law.amax(-1), -(law * law.clamp_min(1e-30).log()).sum(-1)

    return Case(
        "draft_topk, gumbel",
        f"{rows} rows, V {vocab}",
        {
            OURS: lambda: ops.draft_topk(
                logits, 4, *filters(rows, 1.0, 0, 1.0), seed, position, "gumbel"
            ),
            "eager chain": eager,
        },
        floor_bytes=rows * vocab * 4,
    )


def compact_case(layers: int, num_kv_heads: int, head_dim: int, keep: list[int]) -> Case:
    """Keeping some nodes of a block in all layers, against a gather and a copy per layer."""
    context, length = 500, 1024
    shape = (layers, 1, length, num_kv_heads, head_dim)
    k_caches, v_caches = list(torch.randn(shape)), list(torch.randn(shape))
    block_table = torch.zeros(1, 1, dtype=torch.int32)
    args = (k_caches, v_caches, block_table, ints(context), ints(*keep)[None], ints(len(keep)))
    source = context + torch.tensor(keep)

    def eager() -> None:
        for cache in (*k_caches, *v_caches):
            cache[:, context : context + len(keep)].copy_(cache.index_select(1, source))

    moved = sum(slot != place for place, slot in enumerate(keep))
    return Case(
        "compact_kv_",
        f"{layers} layers, {moved} of {len(keep)} entries move, {num_kv_heads} x {head_dim}",
        {OURS: lambda: ops.compact_kv_(*args), "index_select and copy_ per layer": eager},
        floor_bytes=2 * layers * moved * num_kv_heads * head_dim * 4,
    )


def cases() -> list[Case]:
    return [
        attention_case(8, 2048, 9, 3, 64),
        attention_case(1, 8192, 9, 3, 64),
        attention_case(8, 8192, 9, 3, 64),
        attention_case(8, 2048, 32, 8, 128),
        verify_case("gumbel", 8, 49152),
        verify_case("gumbel", 8, 49152, top_k=50, top_p=0.95),
        verify_case("rejection", 8, 49152),
        verify_case("rejection", 8, 49152, top_k=50, top_p=0.95),
        draft_case(4, 49152),
        compact_case(30, 3, 64, keep=[0, 2, 5, 7]),
        compact_case(30, 3, 64, keep=[0, 1, 2, 3]),
    ]


def measure(case: Case) -> dict[str, object]:
    """Timings of a case's contenders and of a copy that moves its bytes, read and written."""
    contenders = dict(case.contenders)
    if case.floor_bytes:
        contenders["copy"] = copy_of(case.floor_bytes // 2)
    timings = take_turns(contenders)
    return {
        "op": case.op,
        "shape": case.shape,
        "floor_bytes": case.floor_bytes,
        "seconds": {name: asdict(timing) for name, timing in timings.items()},
        "speedup": {
            name: timing.median / timings[OURS].median
            for name, timing in timings.items()
            if name not in (OURS, "copy")
        },
        "of_copy_bandwidth": _share_of_copy(timings),
    }


def _share_of_copy(timings: dict[str, Timing]) -> float | None:
    return timings["copy"].median / timings[OURS].median if "copy" in timings else None


def report(results: list[dict]) -> Table:
    table = Table(title="Ops on CPU, medians of interleaved rounds")
    for column in ("op", "shape", "ours", "speedup over", "of copy bandwidth"):
        table.add_column(column, overflow="fold")
    for row in results:
        speedups = "\n".join(f"{ratio:.1f}x {name}" for name, ratio in row["speedup"].items())
        share = row["of_copy_bandwidth"]
        table.add_row(
            row["op"],
            row["shape"],
            f"{row['seconds'][OURS]['median'] * 1e6:.0f} us",
            speedups,
            f"{share:.0%}" if share else "-",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args(arguments)
    results = [measure(case) for case in cases()]
    Console().print(report(results))
    if options.out:
        record = {"build": build_info(), "threads": torch.get_num_threads(), "results": results}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
