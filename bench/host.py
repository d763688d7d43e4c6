"""What a round costs besides the two models: `python -m bench.host`.

Policy, tree and loop run on the host's one thread while both lanes wait for them. Measures the time
of a round outside the lanes' work, beside the forwards of the same rounds: medians of all rounds,
so that what else the machine does counts little. All work runs on one thread, in virtual lanes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any, NamedTuple, TypeVar

import torch

from bench.methods import MAX_NODES, Variant
from bench.options import add_pair, positive
from bench.synthetic import TINY, noisy, pair_of, random_llama
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import Pending, VirtualLanes
from specbranch.loading import ModelPair, load_pair
from specbranch.loading.prepack import pack_linears
from specbranch.prompts import EXAMPLE_PROMPTS
from specbranch.sampling import SamplingParams
from specbranch.trace import Label

T = TypeVar("T")

COST_RATIO = 4
TINY_NOISE = 0.15
MEASURED = (
    Variant("ar", "ar"),
    Variant("sps", "sps", (("gamma", COST_RATIO),)),
    Variant("pearl", "pearl", (("gamma", COST_RATIO),)),
    Variant("specbranch", "specbranch"),
    Variant("bestfirst 8/32", "bestfirst", (("rows_draft", 8), ("rows_target", 32))),
    Variant("bestfirst 16/64", "bestfirst", (("rows_draft", 16), ("rows_target", 64))),
    Variant("auto", "auto"),
)


class Stopwatch:
    """Seconds of each round in each kind of lane work, in the lanes besides, and in the host.

    A virtual clock's own bookkeeping is no one's who runs on real lanes: it is left out.

    rounds: one counter a round; the host's share is under "host".
    """

    def __init__(self, lanes: VirtualLanes) -> None:
        self.rounds: list[Counter[str]] = []
        self._seconds: Counter[str] = Counter()
        for lane in (lanes.draft, lanes.target):
            lane.submit = self._watched(lane.submit)  # type: ignore[method-assign]
        lanes.round = self._round  # type: ignore[method-assign]

    @contextmanager
    def _round(self) -> Iterator[None]:
        self._seconds = Counter()
        start = time.perf_counter()
        yield
        whole = time.perf_counter() - start
        self.rounds.append(self._seconds | Counter(host=whole - self._seconds["lanes"]))

    def _timed(self, kind: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self._seconds[kind] += time.perf_counter() - start

    def _watched(self, submit: Callable[..., Pending[Any]]) -> Callable[..., Pending[Any]]:
        def watched(label: str, work: Callable[[], Any], *, rows: int = 0) -> Pending[Any]:
            noted = partial(self._timed, label, work)
            pending = self._timed("lanes", partial(submit, label, noted, rows=rows))
            return WatchedPending(pending, partial(self._timed, "lanes"))

        return watched

    def milliseconds(self, kind: str) -> float:
        """The median of the rounds."""
        return 1e3 * median(each[kind] for each in self.rounds)


class WatchedPending(NamedTuple):
    """Work of a lane; asking for it is the lanes' time."""

    pending: Pending[Any]
    timed: Callable[[Callable[[], Any]], Any]

    def done(self) -> bool:
        return self.timed(self.pending.done)

    def result(self) -> Any:
        return self.timed(self.pending.result)


def measure(engine: Engine, watch: Stopwatch, requests: int, new_tokens: int) -> dict[str, float]:
    """Milliseconds a round of so many requests: the host's own, one target forward, all draft
    steps."""
    engine.generate(EXAMPLE_PROMPTS[0], SamplingParams(max_new_tokens=8))
    watch.rounds.clear()
    for prompt in EXAMPLE_PROMPTS:
        engine.generate([prompt] * requests, SamplingParams(max_new_tokens=new_tokens))
    kinds = {kind: watch.milliseconds(kind) for kind in ("host", Label.TARGET, Label.DRAFT)}
    share = kinds["host"] / (kinds["host"] + kinds[Label.TARGET])
    return {"rounds": len(watch.rounds)} | kinds | {"host_share": share}


def tiny_pair() -> ModelPair:
    """Two models so small that they leave the host's caches as they are, run in one call."""
    target = random_llama(TINY, torch.device("cpu"), torch.float32)
    draft = noisy(target, TINY_NOISE)
    for model in (target, draft):
        pack_linears(model)
    return pair_of(target, draft, "noisy weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pair(parser)
    parser.add_argument("--tiny", action="store_true", help="a tiny pair of random weights instead")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--requests", type=positive, default=1, help="that run at a time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pair = tiny_pair() if options.tiny else load_pair(options.target, options.draft)
    requests = options.requests
    sizes = {"max_len": 512, "max_nodes": MAX_NODES, "max_requests": requests}
    costs = CostModel.rows_free(f"c={COST_RATIO}", COST_RATIO)
    found = {}
    for each in MEASURED:
        lanes = VirtualLanes(costs)
        watch = Stopwatch(lanes)
        with Engine(pair, each.policy(), lanes=lanes, **sizes) as engine:
            found[each.label] = measure(engine, watch, requests, options.max_new_tokens)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
