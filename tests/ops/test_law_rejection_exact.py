"""The rejection rule keeps the target's law: by exact enumeration, in rational arithmetic.

Every case is an equality of Fractions, not a tolerance. That the op follows this rule, decision by
decision, is the last part of the file.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from specbranch import ops
from specbranch.reference.noise import Stream, accept_uniform, gumbel_noise
from tests.ops.cases import generators, int32
from tests.ops.rejection_rule import (
    Law,
    deterministic_top_k,
    draws_without_replacement,
    exact_rule,
    outcomes,
    output_law,
    rule_in_order_of_q,
    rule_that_drops_improbable_draws,
    rule_without_residual_between_siblings,
    total_variation,
)
from tests.ops.tree_cases import TreeCase


@st.composite
def laws(draw: st.DrawFn, vocab: int) -> Law:
    """A law of small integer weights: zeros, ties and one-hot rows are common."""
    weights = draw(st.lists(st.integers(0, 6), min_size=vocab, max_size=vocab))
    weights[draw(st.integers(0, vocab - 1))] += not any(weights)
    return [Fraction(w, sum(weights)) for w in weights]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Law, Law]:
    vocab = draw(st.integers(1, 4))
    return draw(laws(vocab)), draw(laws(vocab))


CORNERS = {
    "equal": ([Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)],) * 2,
    "one-hot target": ([Fraction(0), Fraction(1), Fraction(0)], [Fraction(1, 3)] * 3),
    "one-hot draft": ([Fraction(1, 3)] * 3, [Fraction(0), Fraction(1), Fraction(0)]),
    "disjoint": (
        [Fraction(1), Fraction(0), Fraction(0)],
        [Fraction(0), Fraction(1, 2), Fraction(1, 2)],
    ),
    "zeros in both": (
        [Fraction(2, 3), Fraction(0), Fraction(1, 3), Fraction(0)],
        [Fraction(0), Fraction(0), Fraction(1, 4), Fraction(3, 4)],
    ),
}


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("corner", CORNERS)
def test_sampled_siblings_keep_the_law_in_the_corners(corner, k):
    P, Q = CORNERS[corner]
    assert output_law(P, Q, k, exact_rule, draws_without_replacement) == P


@settings(max_examples=300)
@given(pair=pairs(), k=st.integers(0, 4))
def test_sampled_siblings_keep_the_law(pair, k):
    P, Q = pair
    assert output_law(P, Q, k, exact_rule, draws_without_replacement) == P


@settings(max_examples=100)
@given(pair=pairs())
def test_a_token_without_mass_is_never_accepted(pair):
    P, Q = pair
    for drawn, _ in draws_without_replacement(Q, len(Q)):
        for token, _, chance in outcomes(exact_rule(P, Q, drawn)):
            assert chance == 0 or P[token] > 0


# Trees: the law of the first two tokens. At each node k tokens are drawn, and matched guesses may
# hang beside them, chosen by an adversary who has seen the draws.
MATCHED = {
    "none": lambda drawn, vocab: [],
    "the lowest undrawn token": lambda drawn, vocab: [t for t in range(vocab) if t not in drawn][
        :1
    ],
    "every undrawn token": lambda drawn, vocab: [t for t in range(vocab) if t not in drawn],
    "one that depends on the draws": lambda drawn, vocab: [
        t for t in range(vocab) if t not in drawn and (sum(drawn) + t) % 2
    ],
}


def law_of_two_tokens(P: list[Law], Q: list[Law], k: tuple[int, int], matched) -> dict:
    """P[0], Q[0] at the root; P[1 + x], Q[1 + x] after token x.

    An accepted token (drawn or matched) has a node of its own with k[1] draws; otherwise the round
    ends and the second token comes from the target alone in the next round.
    """
    law: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    vocab = len(P[0])
    for drawn, chance in draws_without_replacement(Q[0], k[0]):
        for first, accepted, p in outcomes(exact_rule(P[0], Q[0], drawn)):
            node = accepted or first in matched(drawn, vocab)
            below = (
                output_law(P[1 + first], Q[1 + first], k[1], exact_rule, draws_without_replacement)
                if node
                else P[1 + first]
            )
            for second in range(vocab):
                law[first, second] += chance * p * below[second]
    return law


@settings(max_examples=40)
@given(data=st.data(), vocab=st.integers(2, 3))
@pytest.mark.parametrize("matched", MATCHED)
@pytest.mark.parametrize("k", [(1, 1), (2, 1), (2, 2), (1, 3), (0, 2)])
def test_trees_keep_the_law_of_the_text(matched, k, data, vocab):
    P = [data.draw(laws(vocab)) for _ in range(1 + vocab)]
    Q = [data.draw(laws(vocab)) for _ in range(1 + vocab)]
    law = law_of_two_tokens(P, Q, k, MATCHED[matched])
    for first in range(vocab):
        for second in range(vocab):
            assert law[first, second] == P[0][first] * P[1 + first][second]


# The check bites: rules that are known to be wrong fail the same equality, by a wide margin.
P_EXAMPLE = [Fraction(w, 20) for w in (10, 6, 3, 1)]
Q_EXAMPLE = [Fraction(w, 20) for w in (2, 3, 6, 9)]

WRONG = {
    "deterministic top-k siblings tested as draws": (exact_rule, deterministic_top_k),
    "deterministic top-k siblings, min(1, p / q) each": (
        rule_without_residual_between_siblings,
        deterministic_top_k,
    ),
    "no residual between siblings": (
        rule_without_residual_between_siblings,
        draws_without_replacement,
    ),
    "siblings in the order of q": (rule_in_order_of_q, draws_without_replacement),
    "improbable draws dropped": (rule_that_drops_improbable_draws, draws_without_replacement),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_do_not_keep_the_law(name):
    rule, draws = WRONG[name]
    law = output_law(P_EXAMPLE, Q_EXAMPLE, 2, rule, draws)
    assert sum(law) == 1
    assert total_variation(law, P_EXAMPLE) > Fraction(1, 100)


def test_dropping_improbable_draws_is_wrong_for_a_single_draw_too():
    law = output_law(
        P_EXAMPLE, Q_EXAMPLE, 1, rule_that_drops_improbable_draws, draws_without_replacement
    )
    assert total_variation(law, P_EXAMPLE) > Fraction(1, 100)


# The op follows the rule, for the noise words that it is given.
def decide(P: Law, Q: Law, drawn: list[int], seed: int, position: int) -> tuple[int, bool, float]:
    """(token, accepted as a draw, margin) by the exact rule and the noise of (seed, position).

    The margin is the distance of the closest decision from a tie.
    """
    tests, left = exact_rule(P, Q, drawn)
    margin = 1.0
    for token, chance in tests:
        u = accept_uniform(seed, position, token)
        if chance < 1:
            margin = min(margin, abs(u - float(chance)))
        if u < chance:
            return token, True, margin
    vocab = torch.arange(len(P))
    law = torch.tensor([float(p) for p in left], dtype=torch.float64)
    score = law.log() + gumbel_noise(seed, position, vocab, Stream.RESIDUAL)
    best = score.topk(min(2, len(P)))
    gap = float(best.values[0] - best.values[-1]) if len(P) > 1 else 1.0
    return int(best.indices[0]), False, min(margin, gap)


@settings(max_examples=500)
@given(generator=generators(), vocab=st.integers(1, 6), k=st.integers(0, 6))
def test_the_op_follows_the_rule_walk_by_walk(generator, vocab, k):
    """A comb: the root has k drawn children, and so has each of them; all others are matched."""
    rows = 1 + vocab
    weights = torch.randint(0, 5, (2, rows, vocab), generator=generator).float()
    weights[:, :, 0] += weights.sum(-1) == 0
    p, q = weights / weights.sum(-1, keepdim=True)
    # Node 1 + x is the root's child with token x; below it hang the unsubmitted children.
    candidates = [0, *range(vocab)] + [x for _ in range(vocab) for x in range(vocab)]
    parents = [-1] + [0] * vocab + [1 + node for node in range(vocab) for _ in range(vocab)]
    orders = torch.zeros(1 + vocab + vocab**2, dtype=torch.uint8)
    drawn: list[list[int]] = []
    for row in range(rows):
        order = torch.randperm(vocab, generator=generator).tolist()
        drawn.append([x for x in order if q[row, x] > 0][:k])
        for rank, token in enumerate(drawn[row]):
            orders[1 + row * vocab + token] = rank + 1
    seed = int(torch.randint(-(2**63), 2**63 - 1, (), generator=generator))
    position = int(torch.randint(0, 2**31 - 1, (), generator=generator))
    case = TreeCase(
        candidates=int32([candidates]),
        parents=int32([parents]),
        n_nodes=int32([len(parents)]),
        n_rows=int32([rows]),
        target_logits=p.log()[None],
        temperature=torch.ones(1),
        top_k=int32([0]),
        top_p=torch.ones(1),
        min_p=torch.zeros(1),
        seed=torch.tensor([seed]),
        position=int32([position]),
        draft_probs=q[None],
        draw=orders[None],
    )
    path, path_len, next_token, winner, status = (
        r[0].tolist() for r in ops.verify_tree(*case.arguments())
    )

    def exact(weights: torch.Tensor) -> Law:
        return [Fraction(int(w), int(weights.sum())) for w in weights]

    def decision(row: int) -> tuple[int, float]:
        token, accepted, margin = decide(
            exact(weights[0, row]), exact(weights[1, row]), drawn[row], seed, position + (row > 0)
        )
        found = accepted or token not in drawn[row]
        event("accepted draw" if accepted else "residual")
        return (token if found else -1), margin

    first, margin = decision(0)
    if margin < 1e-5:
        event("within rounding")
        return
    assert status == 0
    assert path[:path_len] == [0, 1 + first], "the first step is not the rule's"
    second, margin = decision(1 + first)
    if margin < 1e-5:
        event("within rounding")
        return
    assert next_token == second
    assert winner == 1 + vocab + first * vocab + second
