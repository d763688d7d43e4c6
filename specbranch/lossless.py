"""Whether a decoder writes what its target model would: tests for any engine, not only this one.

A decoder is a function of a prompt, a number of tokens and a seed. Where its text has to be that of
plain decoding, `differences` compares them. Where it has to be equal in law, `examine` counts what
it writes against the exact law of whole texts and of pairs of tokens in different rounds, which is
known if the vocabulary and the texts are small; the same tests are given decoders that make the
mistakes of `MISTAKES`, which tells whether they would have been seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

Text = tuple[int, ...]
Decode = Callable[[Sequence[int], int, int], Sequence[int]]
"""Prompt, tokens to write, seed: the tokens."""
Law = Callable[[Text], Sequence[float]]
"""The chance of each token after a text, the prompt with it."""

FEWEST = 5.0  # expected draws of a cell of a chi-square test; rarer ones share one


@dataclass(frozen=True, slots=True)
class Report:
    """What `examine` found.

    p_values: of each test, how likely a lossless decoder looks so odd or odder.
    mistakes: of each mistake, the least p-value of the same tests on a decoder that makes it.
    significance: the chance that a lossless decoder is called another thing.
    """

    p_values: Mapping[str, float]
    mistakes: Mapping[str, float]
    significance: float

    @property
    def threshold(self) -> float:
        """For each test, by Bonferroni."""
        return self.significance / len(self.p_values)

    @property
    def lossless(self) -> bool:
        """Whether no test found anything."""
        return min(self.p_values.values()) > self.threshold

    @property
    def unseen(self) -> list[str]:
        """Mistakes that the tests did not find: they ask for more runs."""
        return [name for name, p in self.mistakes.items() if p > self.threshold]


def differences(
    decode: Decode, plain: Decode, prompts: Sequence[Sequence[int]], length: int, seed: int = 0
) -> list[tuple[int, int]]:
    """Where texts part from plain decoding's: the prompt's number and the token's, each once."""
    found = []
    for number, prompt in enumerate(prompts):
        ours, theirs = ([*each(prompt, length, seed)] for each in (decode, plain))
        if ours != theirs:
            pairs = zip(ours, theirs, strict=False)
            same = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
            found.append((number, min(len(ours), len(theirs)) if same is None else same))
    return found


def examine(
    decode: Decode,
    law: Law,
    prompt: Sequence[int],
    *,
    length: int = 4,
    runs: int = 2000,
    draft_law: Law | None = None,
    significance: float = 1e-3,
) -> Report:
    """Let a decoder write many texts, with the seeds from 0 on, and test them against their law.

    law: of the target, V tokens; it is asked for V**length texts. length: more than a round
        commits, so that there are texts of two rounds.
    draft_law: for decoders that make mistakes, by default one that differs from the target's.
    Raises ValueError for a text of another length.
    """
    exact = text_law(law, prompt, length)
    p_values = _p_values(decode, exact, prompt, length, runs)
    guesses = draft_law or _flattened(law)
    mistakes = {
        name: min(_p_values(speculative(rule, law, guesses), exact, prompt, length, runs).values())
        for name, rule in MISTAKES.items()
    }
    return Report(p_values, mistakes, significance)


def text_law(law: Law, prompt: Sequence[int], length: int) -> dict[Text, float]:
    """The chance of every text of that length after the prompt."""
    texts: dict[Text, float] = {(): 1.0}
    for _ in range(length):
        texts = {
            (*text, token): chance * p
            for text, chance in texts.items()
            for token, p in enumerate(law((*prompt, *text)))
            if p > 0
        }
    return texts


def _p_values(
    decode: Decode, exact: Mapping[Text, float], prompt: Sequence[int], length: int, runs: int
) -> dict[str, float]:
    texts = [tuple(decode(prompt, length, seed)) for seed in range(runs)]
    for text in texts:
        if len(text) != length:
            raise ValueError(f"decode: expected {length} tokens, got {len(text)}")
    found = {"texts": chi_square(Counter(texts), exact)}
    for pair in combinations(range(length), 2):
        joint: Counter[Text] = Counter()
        for text, chance in exact.items():
            joint[tuple(text[at] for at in pair)] += chance  # type: ignore[assignment]
        counts = Counter(tuple(text[at] for at in pair) for text in texts)
        found[f"tokens {pair[0]} and {pair[1]}"] = chi_square(counts, joint)
    return found


def chi_square(counts: Mapping[Text, float], law: Mapping[Text, float]) -> float:
    """The p-value of counts under a law; 0 where something came that cannot come."""
    if any(law.get(text, 0.0) <= 0 for text in counts):
        return 0.0
    total = sum(counts.values())
    expected = np.array(list(law.values())) * total
    observed = np.array([counts.get(text, 0) for text in law], float)
    rare = expected < FEWEST
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
    if len(expected) < 2:
        return 1.0
    statistic = float((((observed - expected) ** 2) / expected).sum())
    half = torch.tensor([(len(expected) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def _flattened(law: Law) -> Law:
    """Another law: with less of the difference between tokens, which are turned by one."""

    def flat(text: Text) -> Sequence[float]:
        chances = np.roll(np.sqrt(np.asarray(law(text), float) + 1e-3), 1)
        return chances / chances.sum()

    return flat


SIBLINGS = 2


def _draw(rng: np.random.Generator, law: np.ndarray) -> int:
    return int(rng.choice(len(law), p=law / law.sum()))


def _draws(rng: np.random.Generator, draft: np.ndarray) -> list[int]:
    return [_draw(rng, draft) for _ in range(SIBLINGS)]


def _residual(target: np.ndarray, draft: np.ndarray) -> np.ndarray:
    left = np.maximum(target - draft, 0)
    return left / left.sum() if left.sum() > 0 else target


def _as_before(target: np.ndarray, draft: np.ndarray) -> np.ndarray:
    return target


@dataclass(frozen=True, slots=True)
class Rule:
    """How a small speculative decoder guesses and tests; by default right: draws of the draft's
    law, each tested with p/q of what the ones before have left (Leviathan et al. 2023; siblings as
    in SpecInfer, Miao et al. 2024). Each field, changed, is a mistake that was published.

    guesses: from the draft's law. between, behind: what is left of the target's law between two
    guesses, and behind the last. same_numbers: whether every round has the same random ones.
    """

    guesses: Callable[[np.random.Generator, np.ndarray], list[int]] = _draws
    between: Callable[[np.ndarray, np.ndarray], np.ndarray] = _residual
    behind: Callable[[np.ndarray, np.ndarray], np.ndarray] = _residual
    same_numbers: bool = False

    def tested(
        self, rng: np.random.Generator, target: np.ndarray, draft: np.ndarray
    ) -> tuple[int, bool]:
        """The token to commit, and whether it was a guess."""
        guesses = self.guesses(rng, draft)
        for number, guess in enumerate(guesses, start=1):
            if rng.random() * draft[guess] < target[guess]:
                return guess, True
            left = self.behind if number == len(guesses) else self.between
            target = left(target, draft)
        return _draw(rng, target), False


MISTAKES = {
    "the likeliest guesses tested as if they were drawn": Rule(
        lambda rng, draft: np.argsort(-draft)[:SIBLINGS].tolist()
    ),
    "guesses tested in the order of their chances": Rule(
        lambda rng, draft: sorted(_draws(rng, draft), key=lambda token: -draft[token])
    ),
    "guesses drawn from another law than q": Rule(lambda rng, draft: _draws(rng, draft**2)),
    "no residual between siblings": Rule(between=_as_before),
    "no residual behind guesses": Rule(between=_as_before, behind=_as_before),
    "every round has the same random numbers": Rule(same_numbers=True),
}


def speculative(rule: Rule, law: Law, draft_law: Law) -> Decode:
    """The decoder that follows a rule. Behind a guess that holds comes a token of the target's."""

    def decode(prompt: Sequence[int], length: int, seed: int) -> list[int]:
        text, rng = [*prompt], np.random.default_rng(seed)
        while len(text) < len(prompt) + length:
            if rule.same_numbers:
                rng = np.random.default_rng(seed)
            target, draft = (np.asarray(each(tuple(text)), float) for each in (law, draft_law))
            token, held = rule.tested(rng, target, draft)
            text.append(token)
            if held:
                text.append(_draw(rng, np.asarray(law(tuple(text)), float)))
        return text[len(prompt) : len(prompt) + length]

    return decode
