"""The rejection rule, and rules that are wrong, in any arithmetic: Fractions give exact laws.

A law is a list of probabilities by token. A rule answers, for a target law P, a draft law Q and the
drawn children in order, what happens at one node: the chance that each child is accepted when its
turn comes, and the law of the token if none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

Law = list[Fraction]
Step = tuple[list[tuple[int, Fraction]], Law]
Rule = Callable[[Law, Law, Sequence[int]], Step]
Draws = Iterator[tuple[tuple[int, ...], Fraction]]


def acceptance(P: Law, Q: Law, token: int) -> Fraction:
    """Chance of u * Q < P for u uniform in [0, 1)."""
    if Q[token] == 0:
        return Fraction(P[token] > 0)
    return min(Fraction(1), P[token] / Q[token])


def normalised(weights: Law, fallback: Law) -> Law:
    total = sum(weights)
    return [w / total for w in weights] if total > 0 else fallback


def residual(P: Law, Q: Law) -> Law:
    return normalised([max(p - q, Fraction(0)) for p, q in zip(P, Q, strict=True)], fallback=P)


def without(Q: Law, token: int) -> Law:
    rest = [Fraction(0) if x == token else q for x, q in enumerate(Q)]
    return normalised(rest, fallback=rest)


def exact_rule(P: Law, Q: Law, drawn: Sequence[int]) -> Step:
    """Each child is tested against what is left of P, and leaves the residual and Q without it."""
    tests = []
    for token in drawn:
        tests.append((token, acceptance(P, Q, token)))
        P, Q = residual(P, Q), without(Q, token)
        if sum(Q) == 0:
            break
    return tests, P


# Rules that are wrong, published or tempting.
def rule_without_residual_between_siblings(P: Law, Q: Law, drawn: Sequence[int]) -> Step:
    """min(1, p / q) for each sibling, the residual only at the end."""
    return [(token, acceptance(P, Q, token)) for token in drawn], residual(P, Q)


def rule_in_order_of_q(P: Law, Q: Law, drawn: Sequence[int]) -> Step:
    """The right tests, in the order of the draft's probabilities instead of the draws'."""
    return exact_rule(P, Q, sorted(drawn, key=lambda token: -Q[token]))


def rule_that_drops_improbable_draws(P: Law, Q: Law, drawn: Sequence[int]) -> Step:
    """A draw is thrown away because its own probability is small."""
    return exact_rule(P, Q, [token for token in drawn if Q[token] >= Fraction(1, 5)])


# How children come about.
def draws_without_replacement(Q: Law, k: int) -> Draws:
    """Every ordered draw of up to k tokens with mass, and its chance."""
    if k == 0 or sum(Q) == 0:
        yield (), Fraction(1)
        return
    for token, q in enumerate(Q):
        if q > 0:
            for rest, chance in draws_without_replacement(without(Q, token), k - 1):
                yield (token, *rest), q * chance


def deterministic_top_k(Q: Law, k: int) -> Draws:
    """The k most probable tokens: no draw at all, so testing them as draws is wrong."""
    ranked = sorted((x for x in range(len(Q)) if Q[x] > 0), key=lambda token: -Q[token])
    yield tuple(ranked[:k]), Fraction(1)


def guess_among_the_draws(Q: Law, k: int) -> Draws:
    """A guess of another kind, fixed beforehand, passed off as the first of k draws."""
    for drawn, chance in draws_without_replacement(without(Q, 0), k - 1):
        yield (0, *drawn), chance


# Laws of the output.
def outcomes(step: Step) -> Iterator[tuple[int, bool, Fraction]]:
    """(token, accepted as a draw, chance) of everything that can happen at a node."""
    tests, left = step
    reached = Fraction(1)
    for token, chance in tests:
        yield token, True, reached * chance
        reached *= 1 - chance
    for token, p in enumerate(left):
        yield token, False, reached * p


def output_law(P: Law, Q: Law, k: int, rule: Rule, draws: Callable[[Law, int], Draws]) -> Law:
    """Law of a node's token with k draws."""
    law = [Fraction(0)] * len(P)
    for drawn, chance in draws(Q, k):
        for token, _, p in outcomes(rule(P, Q, drawn)):
            law[token] += chance * p
    return law


def total_variation(a: Law, b: Law) -> Fraction:
    return sum((abs(x - y) for x, y in zip(a, b, strict=True)), Fraction(0)) / 2
