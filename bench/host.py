"""What a round costs besides the two models: `python -m bench.host`.

Policy, tree and loop run on the host's one thread while both lanes wait for them. Measures that
thread's CPU time outside the lanes' work, beside the forwards of the same rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from bench.methods import MAX_NODES
from bench.options import add_pair
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import Lanes, Pending, VirtualLanes
from specbranch.models import load_pair
from specbranch.policies import BestFirst
from specbranch.prompts import EXAMPLE_PROMPTS
from specbranch.sampling import SamplingParams
from specbranch.trace import Label


class Stopwatch:
    """CPU seconds of the calling thread, where virtual lanes run, in each kind of lane work."""

    def __init__(self, lanes: Lanes) -> None:
        self.seconds: Counter[str] = Counter()
        for lane in (lanes.draft, lanes.target):
            lane.submit = self._timed(lane.submit)  # type: ignore[method-assign]

    def _timed(self, submit: Callable[..., Pending[Any]]) -> Callable[..., Pending[Any]]:
        def timed(label: str, work: Callable[[], Any], *, rows: int = 0) -> Pending[Any]:
            def measured() -> Any:
                start = time.thread_time()
                try:
                    return work()
                finally:
                    self.seconds[label] += time.thread_time() - start

            return submit(label, measured, rows=rows)

        return timed


def measure(engine: Engine, watch: Stopwatch, new_tokens: int) -> dict[str, float]:
    """Milliseconds a round: the host's own, one target forward, all draft steps."""
    params = SamplingParams(max_new_tokens=new_tokens)
    engine.generate(EXAMPLE_PROMPTS[0], SamplingParams(max_new_tokens=8))
    watch.seconds.clear()
    start = time.thread_time()
    rounds = sum(
        engine.generate(prompt, params).stats.target_forwards for prompt in EXAMPLE_PROMPTS
    )
    host = time.thread_time() - start - watch.seconds.total()
    kinds = {
        "host": host,
        "target": watch.seconds[Label.TARGET],
        "draft": watch.seconds[Label.DRAFT],
    }
    return {"rounds": rounds} | {kind: 1e3 * sec / rounds for kind, sec in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pair(parser)
    parser.add_argument("--rows-draft", type=int, default=16)
    parser.add_argument("--rows-target", type=int, default=64)
    parser.add_argument("--cost-ratio", type=float, default=4.0, help="T_target / T_draft")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the lanes' work is then all in the thread that is measured
    policy = BestFirst(options.rows_draft, options.rows_target, cost_ratio=options.cost_ratio)
    lanes = VirtualLanes(CostModel.parse(f"virtual:c={options.cost_ratio}"))
    watch = Stopwatch(lanes)
    pair = load_pair(options.target, options.draft)
    engine = Engine(pair, policy, lanes=lanes, max_len=512, max_nodes=MAX_NODES)
    figures = measure(engine, watch, options.max_new_tokens)
    figures["host_share"] = figures["host"] / (figures["host"] + figures["target"])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
