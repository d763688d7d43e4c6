"""How much memory engines and reloaded pairs leave behind: prints MB for each of them."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from specbranch.engine import Engine
from specbranch.loading.pair import ModelPair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams

from . import tiny

WARM_UP = 5


def resident_mb() -> float:
    """Of this process, without what the allocator could give back."""
    gc.collect()
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
    kept = tiny.pair()
    print(growth(lambda: run_engine(kept), 20), growth(lambda: run_engine(tiny.pair()), 10))
