"""Schedules of many requests on a large GPU, under the virtual clock:
`python -m bench.schedule_requests`.

A target of 8B parameters and a draft of 1B in bf16 on one H200 each, synthetic acceptance. What
forwards cost by their rows is PREDICTED by a roofline: weights are read once, every row is
computed; keys and values are left out, so that rows and nothing else make one method dearer than
another. Shown are all requests' tokens a second over plain decoding's of as many requests.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench import markdown
from bench.commit import commit
from bench.floors import Work
from bench.methods import MAX_NODES, Variant
from bench.replays import CONCENTRATION
from bench.roofline import DEVICES, Device
from specbranch.costs.model import CostModel, LaneCosts, RowCosts
from specbranch.files import write_whole
from specbranch.replay import (
    Recorded,
    Replayer,
    SyntheticLaws,
    rank_rates,
    synthetic_recording,
)

DEVICE = next(each for each in DEVICES if each.name == "H200")
PARAMETERS = {"target": 8.0e9, "draft": 1.2e9}
ROWS = (1, 64, 128, 192, 256, 512, 1024, 2048)
REQUESTS = (1, 4, 16, 64)
ALIGNMENTS = (0.4, 0.7, 0.9)
ROUNDS_OF_REQUESTS = 3  # so many after one another in each place of a batch
METHODS = (
    Variant("ar", "ar"),
    Variant("specbranch", "specbranch"),
    Variant("bestfirst 4/8", "bestfirst"),
    Variant("bestfirst 8/32", "bestfirst", (("rows_draft", 8), ("rows_target", 32))),
    Variant("auto", "auto"),
)


def costs(device: Device = DEVICE) -> CostModel:
    """Seconds by rows: the longer of reading the weights and computing the rows."""
    lanes = {name: LaneCosts(_row_costs(device, size)) for name, size in PARAMETERS.items()}
    return CostModel(f"8B and 1B on {device.name}, roofline", lanes["draft"], lanes["target"])


def _row_costs(device: Device, parameters: float) -> RowCosts:
    works = [Work(int(2 * parameters), 0, int(2 * parameters * n)) for n in ROWS]
    return RowCosts(ROWS, tuple(map(device.seconds, works)))


def tokens_per_s(method: Variant, requests: int, alignment: float, tokens: int) -> float:
    """Of so many requests at a time, each of which commits so many tokens."""
    replayer = Replayer(method.policy(), costs(), max_nodes=MAX_NODES, max_requests=requests)
    text, rates = synthetic_recording(tokens), rank_rates(alignment)
    recorded = [
        Recorded(text, SyntheticLaws(rates, concentration=CONCENTRATION, seed=seed))
        for seed in range(ROUNDS_OF_REQUESTS * requests)
    ]
    replays = replayer.replay_all(recorded)
    return sum(len(each.token_ids) for each in replays) / replayer.seconds


def rows(tokens: int) -> Iterator[list[str]]:
    """Of the table, as they come."""
    for alignment in ALIGNMENTS:
        for requests in REQUESTS:
            plain, *others = (
                tokens_per_s(method, requests, alignment, tokens) for method in METHODS
            )
            speedups = (f"{each / plain:.2f}x" for each in others)
            yield [str(alignment), str(requests), f"{plain:.0f}", *speedups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=128, help="of a request")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args()
    with Progress(console=Console(stderr=True)) as bar:
        total = len(ALIGNMENTS) * len(REQUESTS)
        found = list(bar.track(rows(options.tokens), total=total, description="requests"))
    plain, *others = (method.label for method in METHODS)
    header = ["alignment", "requests", f"{plain}, tok/s", *others]
    title = f"# Many requests: {costs().name}, PREDICTED costs, at {commit()}"
    table = [title, "", *markdown.table(header, *found)]
    write_whole(options.out / "schedule-requests.md", "\n".join(table) + "\n")
    print(*table, sep="\n")


if __name__ == "__main__":
    main()
