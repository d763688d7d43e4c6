"""Rows of a product by themselves, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor


def some_alone_and_among_all(
    of: Callable[[Tensor], Tensor], x: Tensor, threads: int, data: st.DataObject
) -> tuple[Tensor, Tensor]:
    """What some rows of x come to on so many threads, and what they come to among all of them."""
    before = torch.get_num_threads()
    together = of(x)
    order = torch.randperm(len(x))
    start = data.draw(st.integers(0, len(x)))
    chosen = order[start : data.draw(st.integers(start, len(x)))]
    try:
        torch.set_num_threads(threads)
        return of(x[chosen]), together[chosen]
    finally:
        torch.set_num_threads(before)
