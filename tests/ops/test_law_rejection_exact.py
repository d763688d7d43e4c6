"""The rejection rule keeps the target's law: by exact enumeration, in rational arithmetic.

Every case is an equality of Fractions, not a tolerance. That the op follows this rule, decision by
decision, is the last part of the file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
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
    guess_among_the_draws,
    outcomes,
    output_law,
    rule_in_order_of_q,
    rule_that_drops_improbable_draws,
    rule_without_residual_between_siblings,
    total_variation,
)
from tests.ops.tree_cases import TreeCase, together


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
    "a guess fixed beforehand, unless it is drawn": lambda drawn, vocab: (
        [0] if 0 not in drawn else []
    ),
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
    "a guess fixed beforehand tested as a draw": (exact_rule, guess_among_the_draws),
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


@dataclass
class Comb:
    """A root with a submitted child for each token, and each of them with one again.

    Node 1 + x is the root's child with token x. weights [2, 1 + V, V]: P and Q by node, up to their
    sums; drawn: of each node, its children that are draws, in order. All others are matched.
    """

    weights: torch.Tensor
    drawn: list[list[int]]
    case: TreeCase

    def decision(self, node: int) -> tuple[int, float]:
        """The token that a child of `node` carries by the rule, or -1, and the margin."""

        def exact(weights: torch.Tensor) -> Law:
            return [Fraction(int(w), int(weights.sum())) for w in weights]

        P, Q = (exact(weights[node]) for weights in self.weights)
        position = int(self.case.position) + (node > 0)
        drawn = self.drawn[node]
        token, accepted, margin = decide(P, Q, drawn, int(self.case.seed), position)
        event("accepted draw" if accepted else "residual")
        return (token if accepted or token not in drawn else -1), margin

    def assert_followed(self, path: list[int], next_token: int, winner: int) -> None:
        first, margin = self.decision(0)
        if margin < 1e-5:
            return event("within rounding")
        assert path == [0, 1 + first], "the first step is not the rule's"
        second, margin = self.decision(1 + first)
        if margin < 1e-5:
            return event("within rounding")
        vocab = len(self.drawn) - 1
        assert (next_token, winner) == (second, 1 + vocab + first * vocab + second)


def random_comb(generator: torch.Generator, vocab: int, k: int) -> Comb:
    """With up to k draws at each node."""
    rows = 1 + vocab
    weights = torch.randint(0, 5, (2, rows, vocab), generator=generator).float()
    weights[:, :, 0] += weights.sum(-1) == 0
    p, q = weights / weights.sum(-1, keepdim=True)
    candidates = [0, *range(vocab)] + [x for _ in range(vocab) for x in range(vocab)]
    parents = [-1] + [0] * vocab + [1 + node for node in range(vocab) for _ in range(vocab)]
    orders = torch.zeros(1 + vocab + vocab**2, dtype=torch.uint8)
    drawn: list[list[int]] = []
    for row in range(rows):
        order = torch.randperm(vocab, generator=generator).tolist()
        drawn.append([x for x in order if q[row, x] > 0][:k])
        for rank, token in enumerate(drawn[row]):
            orders[1 + row * vocab + token] = rank + 1
    case = TreeCase(
        candidates=int32([candidates]),
        parents=int32([parents]),
        n_nodes=int32([len(parents)]),
        row_indptr=int32([0, rows]),
        target_logits=p.log(),
        temperature=torch.ones(1),
        top_k=int32([0]),
        top_p=torch.ones(1),
        min_p=torch.zeros(1),
        seed=torch.randint(-(2**63), 2**63 - 1, (1,), generator=generator),
        position=torch.randint(0, 2**31 - 1, (1,), generator=generator).int(),
        draft_probs=q,
        draw=orders[None],
    )
    return Comb(weights, drawn, case)


@settings(max_examples=300)
@given(
    generator=generators(),
    vocab=st.integers(1, 6),
    draws=st.lists(st.integers(0, 6), min_size=1, max_size=5),
)
def test_the_op_follows_the_rule_walk_by_walk(generator, vocab, draws):
    """Combs side by side, each behind a request without rows; the last rows are padding."""
    combs = [random_comb(generator, vocab, k) for k in draws]
    batch = together(*(case for comb in combs for case in (comb.case.without_rows(), comb.case)))
    padding = torch.full((2, vocab), torch.nan)
    batch.target_logits = torch.cat([batch.target_logits, padding])
    batch.draft_probs = torch.cat([batch.draft_probs, padding])
    results = [r.tolist() for r in ops.verify_tree(*batch.arguments())]
    assert not any(results[-1]), "a status that is not 0"
    walks = [(path[:n], y, w) for path, n, y, w, _ in zip(*results, strict=True)]
    assert walks[::2] == [([], -1, -1)] * len(combs)
    for comb, walk in zip(combs, walks[1::2], strict=True):
        comb.assert_followed(*walk)
