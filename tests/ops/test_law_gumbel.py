"""The gumbel coupling: the text depends on target, seed and position, not on the guesses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import given, settings

from specbranch import ops
from tests.ops.tree_cases import TreeCase, tree_cases


def sampled(case: TreeCase, b: int, node: int, depth: int) -> int:
    row = case.row(b, node, depth)
    return int(ops.sample(row.logits, *row.draws()))


@settings(max_examples=250)
@given(case=tree_cases())
def test_every_step_of_the_walk_is_the_token_of_sample(case):
    case = case.gumbel()
    path, path_len, next_token, winner, status = ops.verify_tree(*case.arguments())
    assert (status == 0).all()
    for b in range(len(path)):
        walk = path[b, : int(path_len[b])].tolist()
        assert (path[b, len(walk) :] == -1).all()
        if case.n_nodes[b] == 0:
            assert walk == []
            continue
        assert walk[0] == 0
        for depth, (node, child) in enumerate(pairwise(walk)):
            assert case.parents[b, child] == node
            assert child < case.n_rows[b]
            assert case.candidates[b, child] == sampled(case, b, node, depth)
        last = walk[-1]
        assert next_token[b] == sampled(case, b, last, len(walk) - 1)
        heirs = [
            i
            for i in range(1, int(case.n_nodes[b]))
            if case.parents[b, i] == last and case.candidates[b, i] == next_token[b]
        ]
        assert winner[b] == (heirs[0] if heirs else -1)
        assert all(i >= case.n_rows[b] for i in heirs)


@given(case=tree_cases())
def test_candidates_change_how_far_the_walk_goes_but_not_its_tokens(case):
    case = case.gumbel()
    roots_only = replace(case, n_nodes=case.n_nodes.clamp(max=1), n_rows=case.n_rows.clamp(max=1))
    path, path_len, next_token, _, _ = ops.verify_tree(*case.arguments())
    _, _, plain, _, _ = ops.verify_tree(*roots_only.arguments())
    for b in range(len(path)):
        first = next_token[b] if path_len[b] <= 1 else case.candidates[b, path[b, 1]]
        assert first == plain[b]


@given(case=tree_cases())
def test_a_lone_root_is_sample(case):
    one = torch.ones_like(case.n_nodes)
    roots = {
        "candidates": torch.zeros_like(case.parents),
        "parents": -torch.ones_like(case.parents),
    }
    case = replace(case.gumbel(), n_nodes=one, n_rows=one, **roots)
    case.target_logits = case.target_logits.nan_to_num(0.0, neginf=-50.0)
    _, _, next_token, _, _ = ops.verify_tree(*case.arguments())
    tokens = ops.sample(case.target_logits[:, 0], *case.arguments()[5:11])
    assert torch.equal(next_token, tokens)


@given(case=tree_cases(vocabs=(9, 200)))
def test_a_perfect_draft_is_always_right(case):
    """A chain of the draft's first guesses, where the draft is the target without filters."""
    B, rows, _ = case.target_logits.shape
    logits = case.target_logits.nan_to_num(0.0, neginf=-50.0)
    off = torch.zeros(B, dtype=torch.int32), torch.ones(B), torch.zeros(B)
    chain = torch.zeros(B, rows, dtype=torch.int32)
    for depth in range(rows - 1):
        ids, _, _, _ = ops.draft_topk(
            logits[:, depth], 1, case.temperature, *off, case.seed, case.position + depth, "gumbel"
        )
        chain[:, depth + 1] = ids[:, 0]
    parents = torch.arange(-1, rows - 1, dtype=torch.int32).expand(B, rows)
    full = torch.full((B,), rows, dtype=torch.int32)
    _, path_len, _, _, _ = ops.verify_tree(
        chain, parents, full, full, logits, case.temperature, *off, case.seed, case.position
    )
    assert (path_len == rows).all()
