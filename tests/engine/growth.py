"""How much memory engines and reloaded pairs leave behind: prints MB for each of them.

`python -m tests.engine.growth DRAFT` measures the built-in target with that draft, in minutes;
without DRAFT it measures a tiny pair.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from specbranch.engine import Engine
from specbranch.loading.pair import ModelPair, load_pair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams

from . import tiny

WARM_UP = 5
M_ARENA_MAX = -8  # of malloc.h


def resident_mb() -> float:
    """Of this process, without what the allocators could give back."""
    gc.collect()
    # A name in CPython's cache of attributes, looked up while a model was loaded, is all that is
    # left in its arena of 1 MiB; there are 4096 such names at most.
    sys._clear_type_cache()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def growth(use: Callable[[], None], count: int) -> float:
    """MB that each of `count` uses leaves, once the first ones have filled what is kept anyway."""
    for _ in range(WARM_UP):
        use()
    before = resident_mb()
    for _ in range(count):
        use()
    return (resident_mb() - before) / count


def run_engine(pair: ModelPair) -> None:
    with Engine(pair, make_policy("specbranch"), max_len=256) as engine:
        engine.generate([3, 4, 5], SamplingParams(max_new_tokens=4))


if __name__ == "__main__":
    # One for all threads, for malloc_trim leaves what is free at the end of a thread's own arena.
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    make = partial(load_pair, "builtin:smollm2", sys.argv[1]) if sys.argv[1:] else tiny.pair
    kept = make()
    print(growth(lambda: run_engine(kept), 50), growth(lambda: run_engine(make()), 20))
