"""The rejection rule over consecutive rounds, enumerated exactly: each must have noise of its own.

A round draws k children of its root and tests them. Where one is accepted the next token comes from
the target alone, so a round commits one token or two, and three tokens take two rounds or three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.rejection_rule import Law, draws_without_replacement, exact_rule, total_variation
from tests.ops.test_law_rejection_exact import laws

Text = tuple[int, ...]
Laws = Mapping[Text, Law]  # of the next token, by the text before it
Known = Mapping[int, tuple[Fraction, Fraction]]  # where the uniform of each token lies
Outcome = tuple[int, bool, Fraction, Known]

LENGTH = 3
ALL = (Fraction(0), Fraction(1))


def decided(P: Law, Q: Law, drawn: tuple[int, ...], known: Known) -> Iterator[Outcome]:
    """(token, accepted as a draw, chance, what is known then) of everything that can happen at a
    node, where a token's uniform is below the chance of its acceptance or not."""
    tests, left = exact_rule(P, Q, drawn)
    reached = Fraction(1)
    for token, chance in tests:
        low, high = known.get(token, ALL)
        middle = min(max(chance, low), high)
        accepted = (middle - low) / (high - low)
        if accepted > 0:
            yield token, True, reached * accepted, {**known, token: (low, middle)}
        if accepted == 1:
            return
        reached *= 1 - accepted
        known = {**known, token: (middle, high)}
    for token, p in enumerate(left):
        yield token, False, reached * p, known


def law_of_rounds(
    P: Laws, Q: Laws, k: int, carried: Callable[[Known], Known]
) -> dict[Text, Fraction]:
    """carried: what is known of a round's uniforms by those of the round before."""
    law: dict[Text, Fraction] = defaultdict(Fraction)

    def go_on(text: Text, chance: Fraction, known: Known) -> None:
        if chance == 0:
            return
        if len(text) >= LENGTH:
            law[text[:LENGTH]] += chance
            return
        for drawn, drew in draws_without_replacement(Q[text], k):
            for token, accepted, came, then in decided(P[text], Q[text], drawn, known):
                longer = (*text, token)
                if not accepted or len(longer) == LENGTH:
                    go_on(longer, chance * drew * came, carried(then))
                    continue
                for last, p in enumerate(P[longer]):
                    go_on((*longer, last), chance * drew * came * p, carried(then))

    go_on((), Fraction(1), {})
    return law


def target_law(P: Laws) -> dict[Text, Fraction]:
    law = {(): Fraction(1)}
    for _ in range(LENGTH):
        law = {
            (*text, token): chance * p
            for text, chance in law.items()
            for token, p in enumerate(P[text])
        }
    return {text: chance for text, chance in law.items() if chance > 0}


def texts(vocab: int) -> list[Text]:
    found: list[Text] = [()]
    for text in found:
        if len(text) < LENGTH - 1:
            found += [(*text, token) for token in range(vocab)]
    return found


@settings(max_examples=60)
@given(data=st.data(), vocab=st.integers(2, 3))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_fresh_uniforms_keep_the_law_of_the_text(k, data, vocab):
    P, Q = ({text: data.draw(laws(vocab)) for text in texts(vocab)} for _ in range(2))
    assert law_of_rounds(P, Q, k, carried=lambda known: {}) == target_law(P)


def fractions(*weights: int) -> Law:
    return [Fraction(weight, sum(weights)) for weight in weights]


@pytest.mark.parametrize("k", [1, 2])
def test_uniforms_used_again_in_the_next_round_do_not(k):
    """As if noise depended on a node's depth below the root instead of its position in the text."""
    P = dict.fromkeys(texts(3), fractions(1, 3, 6))
    Q = dict.fromkeys(texts(3), fractions(5, 3, 2))
    law, wrong = target_law(P), law_of_rounds(P, Q, k, carried=lambda known: known)
    assert sum(wrong.values()) == 1
    both = [[each.get(text, Fraction(0)) for text in law | wrong] for each in (law, wrong)]
    assert total_variation(*both) > Fraction(1, 100)
