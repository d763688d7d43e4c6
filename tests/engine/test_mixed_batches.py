"""Requests of all sorts together, with random policies, joining and leaving at random: each writes
what it writes alone, in fp32 and bf16, on every kind of lane."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest
import torch

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import Lanes, MixedLanes, StreamLanes, ThreadLanes, VirtualLanes
from specbranch.loading.prepack import pack_linears
from specbranch.policies import Autoregressive, Policy
from tests.engine import pretended_gpu, tiny
from tests.engine.test_identity import FILTERS, POLICIES, params_of
from tests.engine.test_rules import RULES

CPU = torch.device("cpu")
LANES: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], Callable[[], Lanes]]] = {
    "virtual": (lambda _: None, lambda: VirtualLanes(CostModel.parse("virtual:c=4"))),
    "threads": (lambda _: None, lambda: ThreadLanes(1, 1)),
    "streams": (pretended_gpu.pretend, lambda: StreamLanes(CPU, CPU)),
    "threads and a stream": (pretended_gpu.pretend_streams, lambda: MixedLanes(CPU, 1)),
}


class AnyPolicy(Policy):
    """Every request gets some other policy."""

    name = "any"
    overlaps = True

    def __init__(self, chance: random.Random) -> None:
        self.policies = [make() for make in POLICIES.values()] + [Autoregressive()]
        self.max_fan = max(policy.max_fan for policy in self.policies)
        self.chance = chance

    def begin(self) -> Policy:
        return self.chance.choice(self.policies).begin()


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def pair(request):
    pair = tiny.packed(tiny.pair(seed=15, noise=0.15))
    models = [model.to(request.param) for model in (pair.target, pair.draft)]
    for model in models:
        pack_linears(model)
    return dataclasses.replace(pair, target=models[0], draft=models[1])


@pytest.fixture(scope="module")
def alone(pair):
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    engine = Engine(pair, Autoregressive(), lanes=lanes, max_len=128)
    return lambda prompt, params: engine.generate(prompt, params).token_ids


def some_request(chance: random.Random):
    prompt = chance.choices(range(1, 64), k=chance.randint(1, 50))
    filters = chance.choice(list(FILTERS))
    rules = chance.choice([{}, RULES["all"], RULES["frequency"]])
    return prompt, params_of(
        filters,
        **rules,
        seed=chance.randint(0, 9),
        coupling=chance.choice(["gumbel", "rejection"]) if filters == "greedy" else "gumbel",
        max_new_tokens=chance.randint(1, 60),
    )


@pytest.mark.parametrize("source", ["model", "model+ngram"])
@pytest.mark.parametrize("kind", LANES)
def test_each_writes_what_it_writes_alone(monkeypatch, pair, alone, kind, source):
    if kind == "streams" and pair.dtype is torch.bfloat16:
        pytest.skip("captured, transformers' forward runs, which rounds bf16 at other places")
    chance = random.Random(f"{kind} {source} {pair.dtype}")
    prepare, make_lanes = LANES[kind]
    prepare(monkeypatch)
    begun = []
    with make_lanes() as lanes:
        sizes = {"max_requests": 5, "max_len": 128, "cache_tokens": 400, "max_nodes": 24}
        engine = Engine(pair, AnyPolicy(chance), source=source, lanes=lanes, **sizes)
        pages = engine.stats()["free_pages"]
        while len(begun) < 25:
            action = chance.random()
            if action < 0.3:
                request = some_request(chance)
                begun.append((*request, engine.stream(*request)))
            elif action < 0.36 and begun:
                chance.choice(begun)[2].close()
            else:
                engine.step()
        while engine.step():
            pass
        assert engine.stats()["free_pages"] == pages
    monkeypatch.undo()
    generations = [stream.generation for _, _, stream in begun]
    assert [each.error for each in generations] == [None] * len(begun)
    cancelled = [each.finish_reason == "cancelled" for each in generations]
    assert 0 < sum(cancelled) < len(begun) / 2
    for (prompt, params, _), generation in zip(begun, generations, strict=True):
        whole = alone(prompt, params)
        n = len(generation.token_ids)
        assert n == len(whole) or generation.finish_reason == "cancelled"
        assert generation.token_ids == whole[:n]
