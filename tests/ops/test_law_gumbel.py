"""The gumbel coupling: the text depends on target, seed and position, not on the guesses."""

from __future__ import annotations

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
        if not case.walks()[b]:
            assert walk == []
            continue
        assert walk[0] == 0
        for depth, (node, child) in enumerate(pairwise(walk)):
            assert case.parents[b, child] == node
            assert child < len(case.rows(b))
            assert case.candidates[b, child] == sampled(case, b, node, depth)
        last = walk[-1]
        assert next_token[b] == sampled(case, b, last, len(walk) - 1)
        heirs = [
            i
            for i in range(1, int(case.n_nodes[b]))
            if case.parents[b, i] == last and case.candidates[b, i] == next_token[b]
        ]
        assert winner[b] == (heirs[0] if heirs else -1)
        assert all(i >= len(case.rows(b)) for i in heirs)


@given(case=tree_cases())
def test_candidates_change_how_far_the_walk_goes_but_not_its_tokens(case):
    case = case.gumbel()
    path, path_len, next_token, _, _ = ops.verify_tree(*case.arguments())
    _, _, plain, _, _ = ops.verify_tree(*case.roots().arguments())
    for b in range(len(path)):
        first = next_token[b] if path_len[b] <= 1 else case.candidates[b, path[b, 1]]
        assert first == plain[b]


@given(case=tree_cases())
def test_a_lone_root_is_sample(case):
    case = case.gumbel().roots()
    _, _, next_token, _, _ = ops.verify_tree(*case.arguments())
    walks = case.walks()
    draws = (t[walks] for t in case.arguments()[5:11])
    assert torch.equal(next_token[walks], ops.sample(case.target_logits, *draws))
    assert (next_token[~walks] == -1).all()


@given(case=tree_cases(vocabs=(9, 200)))
def test_a_perfect_draft_is_always_right(case):
    """Chains of the draft's first guesses, where the draft is the target without filters."""
    B, N = case.candidates.shape
    n_rows, logits = case.row_indptr.diff(), case.target_logits.nan_to_num(0.0, neginf=-50.0)
    off = torch.zeros(B, dtype=torch.int32), torch.ones(B), torch.zeros(B)
    chains = torch.zeros(B, N, dtype=torch.int32)
    for depth in range(N - 1):
        longer = n_rows > depth + 1
        ids, _, _, _ = ops.draft_topk(
            logits[(case.row_indptr[:-1] + depth)[longer]],
            1,
            case.temperature[longer],
            *(t[longer] for t in off),
            case.seed[longer],
            (case.position + depth)[longer],
            "gumbel",
        )
        chains[longer, depth + 1] = ids[:, 0]
    parents = torch.arange(-1, N - 1, dtype=torch.int32).expand(B, N)
    _, path_len, _, _, _ = ops.verify_tree(
        chains,
        parents,
        n_rows,
        case.row_indptr,
        logits,
        case.temperature,
        *off,
        case.seed,
        case.position,
    )
    assert torch.equal(path_len, n_rows)
