"""Chi-square tests with a stated false-alarm rate.

All seeds are fixed, so a test that passes once passes always; the threshold says how surprising the
fixed draws would have to be. The files test_law_* make fewer than 200 such tests, so 1e-5 for each
keeps the chance that correct code fails at its first run below 0.2%.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

THRESHOLD = 1e-5
SMALLEST_CELL = 20.0


def goodness_of_fit(tokens: Tensor, law: Tensor) -> float:
    """p-value of tokens [n] as draws from law [V]; rare tokens share a cell."""
    counts = np.bincount(tokens.numpy(), minlength=len(law)).astype(float)
    expected = law.double().numpy() * len(tokens)
    impossible = expected == 0
    assert counts[impossible].sum() == 0, "a token without mass was drawn"
    order = np.argsort(-expected[~impossible], kind="stable")
    counts, expected = counts[~impossible][order], expected[~impossible][order]
    cell = np.floor(np.cumsum(expected) / SMALLEST_CELL)
    large = expected >= SMALLEST_CELL
    cell[large] = -1 - np.arange(len(expected))[large]
    _, cell = np.unique(cell, return_inverse=True)
    counts, expected = np.bincount(cell, counts), np.bincount(cell, expected)
    if len(counts) == 1:
        return 1.0
    return float(stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue)


def independence(a: Tensor, b: Tensor) -> float:
    """p-value of two token sequences [n] being independent; every token has to be frequent."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a.numpy(), b.numpy()), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    assert table.sum(1).min() * table.sum(0).min() / table.sum() >= SMALLEST_CELL / 2
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def assert_law(tokens: Tensor, law: Tensor) -> None:
    p = goodness_of_fit(tokens, law)
    assert p > THRESHOLD, f"not the law: p = {p:.1e} with {len(tokens)} draws"


def assert_not_law(tokens: Tensor, law: Tensor) -> None:
    """The check bites: far beyond the threshold."""
    p = goodness_of_fit(tokens, law)
    assert p < THRESHOLD**2, f"a wrong rule went unnoticed: p = {p:.1e} with {len(tokens)} draws"


def assert_independent(a: Tensor, b: Tensor) -> None:
    p = independence(a, b)
    assert p > THRESHOLD, f"not independent: p = {p:.1e} with {len(a)} pairs"


def repeated(values: list[float], n: int) -> Tensor:
    """The same row n times, stored once."""
    return torch.tensor(values).expand(n, len(values))
