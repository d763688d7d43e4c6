"""`verify_tree`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench import floors
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, OURS, Case, Way
from bench.ops.inputs import ints, workspace
from bench.ops.laws import (
    NO_FILTER,
    Filter,
    eager_draw,
    eager_law,
    random_logits,
    sampling_params,
)
from specbranch import ops

COUPLINGS = ("greedy", "gumbel", "rejection")
SEED, POSITION = 7, 100


@dataclass(frozen=True, slots=True)
class Trees:
    """A main line of right guesses, and wrong ones beside it: B trees of N nodes, all submitted.

    candidates, draw [B, N]; parents: of the nodes of each tree; visited: nodes of the main line,
    which come first; logits [B, N, V]; laws float32 [B, N, V]: the draft's, the target's own here,
    so that every guess on the main line is right; None but under rejection.
    """

    candidates: Tensor
    parents: list[int]
    visited: int
    logits: Tensor
    laws: Tensor | None
    draw: Tensor
    temperature: float
    kept: Filter

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def ancestors(self) -> Tensor:
        """bool [N, N]: column j of row i is set where j is i or above it."""
        seen = torch.eye(len(self.parents), dtype=torch.bool)
        for node, parent in enumerate(self.parents[1:], 1):
            seen[node] |= seen[parent]
        return seen.to(self.logits.device)

    def per_request(self) -> tuple[Tensor, ...]:
        """Sampling parameters, seed and position of each request."""
        batch, device = len(self.candidates), self.logits.device
        return (
            *sampling_params(batch, self.temperature, self.kept, device),
            torch.full((batch,), SEED, device=device),
            ints(device, [POSITION] * batch),
        )


def main_line_and_siblings(nodes: int, visited: int) -> list[int]:
    """Parents: a chain of `visited` nodes, then the others as children of all of it but its tip."""
    inner = max(visited - 1, 1)
    return [*range(-1, visited - 1), *(i % inner for i in range(nodes - visited))]


def draws_of(parents: list[int], visited: int) -> list[int]:
    """Which of its parent's children a node is, from 1."""
    inner = max(visited - 1, 1)
    return [1] * visited + [2 + i // inner for i in range(len(parents) - visited)]


def verify_tree(
    coupling: str,
    model: Model,
    dtype: torch.dtype,
    batch: int,
    nodes: int,
    visited: int,
    kept: Filter = NO_FILTER,
) -> Case:
    """visited: nodes on the path that the walk takes, at least 2 where there are 2 nodes."""
    rejection = coupling == "rejection"
    parents = main_line_and_siblings(nodes, visited)
    elements = batch * nodes * model.vocab

    def inputs(device: torch.device) -> Trees:
        temperature = 0.0 if coupling == "greedy" else 1.0
        logits = random_logits(device, dtype, batch, nodes, model.vocab)
        rows = sampling_params(batch * nodes, temperature, kept, device)
        seed = torch.full((batch * nodes,), SEED, device=device)
        depth = [min(node, parents[node] + 1) for node in range(nodes)]
        position = ints(device, [POSITION + d for d in depth]).repeat(batch)
        chosen = ops.sample(logits.flatten(0, 1), *rows, seed, position).reshape(batch, nodes)
        draw = ints(device, draws_of(parents, visited))
        candidates = (chosen[:, parents] + draw - 1) % model.vocab
        laws = None
        if rejection:
            laws = ops.sampling_probs(logits.flatten(0, 1), *rows).reshape(logits.shape)
        return Trees(
            candidates=candidates.to(torch.int32),
            parents=parents,
            visited=visited,
            logits=logits,
            laws=laws,
            draw=draw.to(torch.uint8).repeat(batch, 1),
            temperature=temperature,
            kept=kept,
        )

    return Case(
        op=f"verify_tree, {coupling}",
        model=model.name,
        params={
            "batch": batch,
            "nodes": nodes,
            "visited": visited,
            "vocab": model.vocab,
            **kept.params(),
        },
        dtype=dtype,
        work=floors.verify_tree(
            batch=batch,
            nodes=nodes,
            visited=visited,
            vocab=model.vocab,
            rejection=rejection,
            element_size=dtype.itemsize,
        ),
        memory=elements * (dtype.itemsize + 4),
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _ours),
            Way(EAGER, "eager", _eager_chain if rejection else _eager_tree, 24 * elements),
        ),
    )


def _ours(x: Trees) -> Call:
    batch, nodes = x.candidates.shape
    device = x.logits.device
    parents = ints(device, x.parents).repeat(batch, 1)
    sizes = ints(device, [nodes] * batch)
    row_indptr = ints(device, range(0, batch * nodes + 1, nodes))
    path = torch.empty_like(x.candidates)
    path_len, next_token, winner, status = (torch.empty_like(sizes) for _ in range(4))
    results = path, path_len, next_token, winner, status
    draft = (None, None) if x.laws is None else (x.laws.flatten(0, 1), x.draw)
    logits = x.logits.flatten(0, 1)
    inputs = (x.candidates, parents, sizes, row_indptr, logits, *x.per_request(), *draft)
    scratch = workspace(device)

    def call() -> tuple[Tensor, Tensor]:
        ops.verify_tree_out(*inputs, None, *results, scratch)
        return path_len, next_token

    return call


def _eager_tree(x: Trees) -> Call:
    """A token of every row, then the deepest node all of whose ancestors were chosen."""
    parent = ints(x.logits.device, x.parents).long().clamp_min(0)
    not_above = ~x.ancestors()
    depth = x.ancestors().sum(-1)

    def call() -> tuple[Tensor, Tensor]:
        chosen = x.logits.argmax(-1) if x.greedy else eager_draw(eager_law(x.logits, x.kept))
        right = chosen[:, parent] == x.candidates
        right[:, 0] = True
        path_len, tip = ((right[:, None] | not_above).all(-1) * depth).max(-1)
        return path_len, chosen.gather(1, tip[:, None])[:, 0]

    return call


def _eager_chain(x: Trees) -> Call:
    """The ratio tests of the main line, then a draw from the residual: no siblings."""
    tested = x.candidates[:, 1 : x.visited, None].long()
    requests = torch.arange(len(tested), device=tested.device)
    last = x.visited - 1

    def call() -> tuple[Tensor, Tensor]:
        p = eager_law(x.logits, x.kept)
        ratio = p[:, :last].gather(2, tested) / x.laws[:, :last].gather(2, tested)
        passed = torch.rand_like(ratio) < ratio
        accepted = passed[..., 0].cumprod(1).sum(1)
        p_there = p[requests, accepted]
        residual = (p_there - x.laws[requests, accepted]).clamp_min(0)
        law = torch.where((accepted < last)[:, None], residual, p_there)
        return accepted + 1, eager_draw(law)

    return call
