"""2,000 tiny requests that join and leave one engine: prints MB that came beyond what the first
hundred took, and pages that are not back."""

from __future__ import annotations

import ctypes
import random

import torch

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.policies import BestFirst
from specbranch.sampling import SamplingParams

from . import tiny
from .growth import M_ARENA_MAX, resident_mb

REQUESTS, WARM_UP = 2000, 100


def serve(engine: Engine, chance: random.Random, count: int) -> None:
    """Some are cancelled, and of some nobody reads the stream."""
    streams = []
    for _ in range(count):
        prompt = chance.choices(range(1, 64), k=chance.randint(1, 40))
        temperature = chance.choice([0.0, 1.0])
        coupling = chance.choice(["gumbel", "rejection"])
        params = SamplingParams(
            temperature=temperature,
            coupling=coupling,
            seed=chance.randint(0, 9),
            max_new_tokens=chance.randint(1, 6),
        )
        streams.append(engine.stream(prompt, params))
        engine.step()
        if chance.random() < 0.1:
            chance.choice(streams).close()
        del streams[:-8]
    while engine.step():
        pass


if __name__ == "__main__":
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    torch.set_num_threads(1)
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    sizes = {"max_requests": 8, "max_len": 64, "max_nodes": 16, "cache_tokens": 300}
    engine = Engine(
        tiny.packed(tiny.pair(noise=0.15)), BestFirst(), source="model+ngram", lanes=lanes, **sizes
    )
    pages, chance = engine.stats()["free_pages"], random.Random(0)
    serve(engine, chance, WARM_UP)
    before = resident_mb()
    serve(engine, chance, REQUESTS - WARM_UP)
    print(resident_mb() - before, pages - engine.stats()["free_pages"])
