"""The speculation tree: guessed continuations of the last committed token, its root.

`Tree` is one request's, arrays in C++ (csrc/tree); `Reliability` corrects the chances of guesses by
what was verified; `write_questions` puts several trees before `verify_tree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from specbranch._C import Reliability, Tree, write_questions
from specbranch.logprobs import TokenLogprobs

__all__ = ["Reliability", "Tree", "Walk", "write_questions"]


class Walk(NamedTuple):
    """The way the target took through a tree."""

    path: list[int]  # accepted nodes, the root first
    rows: list[int]  # their rows among the submitted ones
    next_token: int  # what the target chose where the path ends
    winner: int  # the guess of next_token, a child that was not submitted; -1 is a miss
    logprobs: Sequence[TokenLogprobs] = ()  # of the accepted tokens and the next, if asked for
