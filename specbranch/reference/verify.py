"""Verification and branch resolution: one walk from the root along the target's tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specbranch.reference.noise import Stream, accept_uniform
from specbranch.reference.sampling import (
    RowParams,
    draw_token,
    has_law,
    log_law,
    rows_of,
    with_allowed,
)

STATUS_OK = 0
STATUS_BAD_LOGITS = 1


@dataclass(frozen=True)
class Child:
    """A child of the node at hand; order is its place among the draws, 0 for a matched child."""

    node: int
    token: int
    order: int


def normalised(weights: Tensor, fallback: Tensor) -> Tensor:
    """Weights as a law, or the fallback where no mass is left."""
    total = weights.sum()
    return weights / total if total > 0 else fallback


def try_draws(
    P: Tensor, Q: Tensor, drawn: list[Child], seed: int, position: int
) -> tuple[Child | None, Tensor]:
    """Test children drawn from Q [V] without replacement against P [V], in the draws' order.

    Returns the accepted child, if any, and what is left of P: the token's law if there is none.
    """
    for child in drawn:
        u = accept_uniform(seed, position, child.token)
        if u * Q[child.token] < P[child.token]:
            return child, P
        P = normalised((P - Q).clamp(min=0), fallback=P)
        Q = Q.index_fill(0, torch.tensor(child.token), 0)
        if Q.sum() == 0:
            break
        Q = Q / Q.sum()
    return None, P


def step_gumbel(
    logits: Tensor, params: RowParams, children: list[Child], seed: int, position: int
) -> tuple[int, Child | None]:
    """The target's token at a node, that of `sample`, and the child that carries it."""
    token = draw_token(log_law(logits, params), seed, position, Stream.GUMBEL)
    return token, next((c for c in children if c.token == token), None)


def step_rejection(
    logits: Tensor, params: RowParams, Q: Tensor, children: list[Child], seed: int, position: int
) -> tuple[int, Child | None]:
    """The token at a node by rejection against the draft's law Q [V], and its child.

    Speculative sampling (Leviathan et al. 2023, Chen et al. 2023) with several draws: a rejected
    draw leaves the residual law norm(max(P - Q, 0)) for the next, and is removed from Q.
    """
    drawn = sorted((c for c in children if c.order > 0), key=lambda c: c.order)
    matched = [c for c in children if c.order == 0]
    accepted, left = try_draws(log_law(logits, params).exp(), Q, drawn, seed, position)
    if accepted is not None:
        return accepted.token, accepted
    token = draw_token(left.log(), seed, position, Stream.RESIDUAL)
    return token, next((c for c in matched if c.token == token), None)


def verify_tree(
    candidates: Tensor,
    parents: Tensor,
    n_nodes: Tensor,
    row_indptr: Tensor,
    target_logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    draft_probs: Tensor | None = None,
    draw: Tensor | None = None,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Walk each tree from its root along the target's tokens; verify guesses and resolve branches.

    candidates, parents [B, N], n_nodes [B], row_indptr [B + 1], target_logits [T, V], temperature,
    top_k, top_p, min_p, seed, position [B]; under rejection also draft_probs [T, V], draw [B, N];
    allowed [T, ceil(V / 32)], see `with_allowed`
    -> path [B, N] (accepted nodes, root first), path_len, next_token, winner, status [B].

    Request b has row_indptr[b + 1] - row_indptr[b] submitted nodes, which come first: node i has
    row row_indptr[b] + i. position is where the root's row draws. The walk ends with next_token at
    the first token that has no submitted child; winner is the unsubmitted child with that token,
    -1 on a miss. An idle request (without nodes or without rows) and one that visits a row without
    a law (status 1) have path_len 0 and next_token -1.

    Without draft_probs (gumbel coupling) a node's token is that of `sample`. With them, children
    with draw = 1, 2, ... were drawn from their parent's row of draft_probs in that order; draw 0
    is a matched child. Temperature 0 treats all children as matched.
    """
    target_logits = with_allowed(target_logits, allowed)
    B, N = candidates.shape
    path = torch.full((B, N), -1, dtype=torch.int32)
    path_len, status = torch.zeros(2, B, dtype=torch.int32)
    next_token, winner = torch.full((2, B), -1, dtype=torch.int32)
    for b, params in enumerate(rows_of(temperature, top_k, top_p, min_p)):
        first_row, end_of_rows = row_indptr[b : b + 2].tolist()
        node, accepted = 0, [0]
        while n_nodes[b] > 0 and first_row < end_of_rows:
            row, where = first_row + node, int(position[b]) + len(accepted) - 1
            logits = target_logits[row]
            if not has_law(logits):
                status[b] = STATUS_BAD_LOGITS
                break
            children = [
                Child(i, int(candidates[b, i]), 0 if draw is None else int(draw[b, i]))
                for i in range(1, int(n_nodes[b]))
                if parents[b, i] == node
            ]
            if draft_probs is None or params.temperature == 0:
                token, child = step_gumbel(logits, params, children, int(seed[b]), where)
            else:
                Q = draft_probs[row].double()
                token, child = step_rejection(logits, params, Q, children, int(seed[b]), where)
            if child is None or first_row + child.node >= end_of_rows:
                path[b, : len(accepted)] = torch.tensor(accepted)
                path_len[b], next_token[b] = len(accepted), token
                winner[b] = -1 if child is None else child.node
                break
            node = child.node
            accepted.append(node)
    return path, path_len, next_token, winner, status
