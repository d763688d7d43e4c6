from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import event, given, settings

from specbranch import ops, reference
from specbranch.reference.noise import accept_uniform
from tests.ops.cases import generators, int32, random_allowed
from tests.ops.tree_cases import TreeCase, greedy_tree, together, tree_cases

RESULTS = ["path", "path_len", "next_token", "winner", "status"]


def outcome(results: tuple[torch.Tensor, ...]) -> dict[str, list]:
    assert all(r.dtype == torch.int32 for r in results)
    return {name: r.tolist() for name, r in zip(RESULTS, results, strict=True)}


def outcomes_within_rounding(case: TreeCase) -> list[dict[str, list]]:
    """What the reference says of inputs that differ from the given ones by float32 rounding."""
    generator = torch.Generator().manual_seed(0)

    def jitter(values: torch.Tensor | None) -> torch.Tensor | None:
        if values is None:
            return None
        noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        return values.double() * (1 + 1e-6 * noise)

    outcomes = []
    for _ in range(40):
        near = TreeCase(*case.arguments())
        near.target_logits, near.draft_probs = jitter(case.target_logits), jitter(case.draft_probs)
        near.top_p = torch.where(case.top_p < 1, jitter(case.top_p), case.top_p.double())
        near.min_p = jitter(case.min_p)
        outcomes.append(outcome(reference.verify_tree(*near.arguments())))
    return outcomes


def assert_matches_reference(case: TreeCase) -> dict[str, list]:
    found = outcome(ops.verify_tree(*case.arguments()))
    if found != outcome(reference.verify_tree(*case.arguments())):
        event("a decision within rounding")
        for b in range(len(case.n_nodes)):
            alone = case.request(b)
            assert outcome(ops.verify_tree(*alone.arguments())) in outcomes_within_rounding(alone)
    return found


@settings(max_examples=250)
@given(case=tree_cases())
def test_gumbel_equals_reference(case):
    found = assert_matches_reference(case.gumbel())
    event(f"deepest walk {max(found['path_len'])}")


@settings(max_examples=250)
@given(case=tree_cases())
def test_rejection_equals_reference(case):
    found = assert_matches_reference(case)
    event(f"deepest walk {max(found['path_len'])}")


@settings(max_examples=150)
@given(generator=generators(), case=tree_cases())
def test_what_is_not_allowed_has_no_mass(generator, case):
    allowed, spoilt, seen = random_allowed(case.target_logits, generator)
    for coupled in (case, case.gumbel()):
        with_bits = replace(coupled, target_logits=spoilt).arguments()
        masked = replace(coupled, target_logits=seen).arguments()
        found = outcome(ops.verify_tree(*with_bits, allowed))
        assert found == outcome(ops.verify_tree(*masked))
        expected = outcome(reference.verify_tree(*with_bits, allowed))
        assert expected == outcome(reference.verify_tree(*masked))
        event(f"deepest walk {max(found['path_len'])}")


@settings(max_examples=150)
@given(case=tree_cases(max_requests=64))
def test_requests_do_not_know_each_other(case):
    for coupled in (case, case.gumbel()):
        results = ops.verify_tree(*coupled.arguments())
        event(f"{(case.row_indptr.diff() == 0).sum()} requests without rows")
        for b in range(len(case.n_nodes)):
            alone = ops.verify_tree(*coupled.request(b).arguments())
            assert outcome(alone) == outcome(tuple(r[b : b + 1] for r in results))


def test_a_hit_ends_at_the_unsubmitted_child():
    assert outcome(ops.verify_tree(*greedy_tree().arguments())) == {
        "path": [[0, 1, -1, -1]],
        "path_len": [2],
        "next_token": [7],
        "winner": [3],
        "status": [0],
    }


def test_a_miss_commits_its_token_all_the_same():
    case = greedy_tree(n_nodes=int32([3]))  # node 3 is gone
    assert outcome(ops.verify_tree(*case.arguments())) == {
        "path": [[0, 1, -1, -1]],
        "path_len": [2],
        "next_token": [7],
        "winner": [-1],
        "status": [0],
    }


def test_a_lone_root_is_plain_decoding():
    case = greedy_tree(n_nodes=int32([1]), row_indptr=int32([0, 1]))
    found = outcome(ops.verify_tree(*case.arguments()))
    assert (found["path_len"], found["next_token"], found["winner"]) == ([1], [5], [-1])


@pytest.mark.parametrize(
    "idle", [{"n_nodes": int32([0])}, {"row_indptr": int32([0, 0])}], ids=["no nodes", "no rows"]
)
def test_an_idle_request_has_no_token(idle):
    assert outcome(ops.verify_tree(*greedy_tree(**idle).arguments())) == {
        "path": [[-1] * 4],
        "path_len": [0],
        "next_token": [-1],
        "winner": [-1],
        "status": [0],
    }


def test_temperature_zero_treats_drawn_children_as_matched():
    # At temperature 0 the draw counts for nothing: node 2 is drawn first, yet the argmax decides.
    case = greedy_tree(
        draft_probs=torch.full((3, 8), 0.125),
        draw=torch.tensor([[0, 2, 1, 1]], dtype=torch.uint8),
    )
    found = outcome(ops.verify_tree(*case.arguments()))
    assert (found["path"], found["next_token"], found["winner"]) == ([[0, 1, -1, -1]], [7], [3])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("rejection", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_bad_logits_are_a_status_where_the_walk_meets_them(bad, rejection, temperature):
    extra = (
        {"draft_probs": torch.full((3, 8), 0.125), "draw": torch.zeros(1, 4, dtype=torch.uint8)}
        if rejection
        else {}
    )
    case = greedy_tree(temperature=torch.tensor([temperature]), **extra)
    clean = outcome(ops.verify_tree(*case.arguments()))
    assert clean["status"] == [0]

    case.target_logits[2, 3] = bad  # not on the path
    assert outcome(ops.verify_tree(*case.arguments())) == clean
    case.target_logits[1, 3] = bad  # on the path
    assert outcome(ops.verify_tree(*case.arguments())) == {
        "path": [[-1] * 4],
        "path_len": [0],
        "next_token": [-1],
        "winner": [-1],
        "status": [reference.verify.STATUS_BAD_LOGITS],
    }
    case.target_logits[1] = -math.inf
    assert outcome(ops.verify_tree(*case.arguments()))["status"] == [1]


def test_a_failed_request_leaves_the_others_alone():
    good, bad = greedy_tree(), greedy_tree(target_logits=torch.full((3, 8), math.nan))
    found = outcome(ops.verify_tree(*together(good, bad).arguments()))
    assert found["status"] == [0, 1]
    assert found["path"][0] == [0, 1, -1, -1]
    assert found["next_token"] == [7, -1]


@pytest.mark.parametrize("depth", [1, 40, 100])
def test_long_chains_are_accepted_whole(depth):
    tokens = torch.arange(depth, dtype=torch.int32) % 7
    logits = torch.full((depth, 8), -9.0)
    for node in range(depth - 1):
        logits[node, tokens[node + 1]] = 9
    logits[depth - 1, 7] = 9
    case = greedy_tree(
        candidates=tokens[None],
        parents=torch.arange(-1, depth - 1, dtype=torch.int32)[None],
        n_nodes=int32([depth]),
        row_indptr=int32([0, depth]),
        target_logits=logits,
    )
    found = outcome(ops.verify_tree(*case.arguments()))
    assert found["path"] == [list(range(depth))]
    assert (found["path_len"], found["next_token"], found["winner"]) == ([depth], [7], [-1])


def drawn_tree(logits: list[float], q: list[float], drawn: list[int], seed: int) -> TreeCase:
    """A root whose children are drawn tokens, at position 1; none is submitted."""
    size = 1 + len(drawn)
    return TreeCase(
        candidates=int32([[0, *drawn]]),
        parents=int32([[-1] + [0] * len(drawn)]),
        n_nodes=int32([size]),
        row_indptr=int32([0, 1]),
        target_logits=torch.tensor([logits]),
        temperature=torch.ones(1),
        top_k=int32([0]),
        top_p=torch.ones(1),
        min_p=torch.zeros(1),
        seed=torch.tensor([seed]),
        position=int32([1]),
        draft_probs=torch.tensor([q]),
        draw=torch.arange(size, dtype=torch.uint8)[None],
    )


def test_a_token_without_mass_does_not_pass_at_u_zero():
    seed, token = 1271470, 3  # found by search: this pair's uniform is exactly zero
    assert accept_uniform(seed, 1, token) == 0
    case = drawn_tree([0.0, 0.0, 0.0, -math.inf], [0.0, 0.0, 0.0, 1.0], [token], seed)
    found = outcome(ops.verify_tree(*case.arguments()))
    assert found["winner"] == [-1]
    assert found["next_token"][0] in {0, 1, 2}


def test_testing_ends_where_the_draft_has_no_mass_left():
    # Token 0 is rejected for sure and leaves Q empty: token 1 is never tested, and as it was drawn,
    # it is not matched either, though the residual law can only give token 1.
    case = drawn_tree([-math.inf, 0.0], [1.0, 0.0], [0, 1], seed=5)
    found = outcome(ops.verify_tree(*case.arguments()))
    assert (found["path_len"], found["next_token"], found["winner"]) == ([1], [1], [-1])


def test_a_residual_without_mass_leaves_the_target_as_it_was():
    # Token 1 was never to be drawn: it fails, and P = Q leaves no residual to draw from.
    case = drawn_tree([0.0, -math.inf], [1.0, 0.0], [1], seed=5)
    found = outcome(ops.verify_tree(*case.arguments()))
    assert (found["path_len"], found["next_token"], found["winner"]) == ([1], [0], [-1])
    assert found == outcome(reference.verify_tree(*case.arguments()))


def test_without_temperature_a_guess_counts_whenever_it_was_drawn():
    # As above, but greedy: token 1 is right, though the draft's law says that it was never drawn.
    case = drawn_tree([0.0, 1.0], [1.0, 0.0], [0, 1], seed=5)
    case.temperature = torch.zeros(1)
    found = outcome(ops.verify_tree(*case.arguments()))
    assert (found["path_len"], found["next_token"], found["winner"]) == ([1], [1], [2])
    assert found == outcome(reference.verify_tree(*case.arguments()))
