"""Trees grown by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbranch._C import Reliability, Tree


def grow(
    tree: Tree,
    node: int,
    tokens: Sequence[int],
    estimates: Sequence[float] | None = None,
    *,
    max_prob: float = 0.5,
    entropy: float = 1.0,
) -> list[int]:
    """Expand `node`, all of whose guesses become children; 0.5, 0.25, ... are their estimates."""
    estimates = estimates or [0.5 ** (rank + 1) for rank in range(len(tokens))]
    tree.expand(
        [node],
        np.array([tokens], np.int32),
        np.array([estimates], np.float32),
        np.array([max_prob], np.float32),
        np.array([entropy], np.float32),
        0,
        Reliability(copy_odds=0),
    )
    tree.attach([len(tokens)])
    return tree.children(node)
