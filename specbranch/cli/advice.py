"""What `specbranch advise` measures of a pair, and what it concludes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rich.box import SIMPLE_HEAD
from rich.table import Table

from specbranch.comparison.baseline import BASELINE, open_engine, warm_up
from specbranch.comparison.session import Session
from specbranch.engine import default_lanes
from specbranch.loading.pair import ModelPair
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.training.pair_timer import PairTimer

WAYS = {
    BASELINE: (BASELINE, "model"),
    "sps": ("sps", "model"),
    "specbranch": ("specbranch", "model"),
    "auto": ("auto", "model"),
    "sps --source ngram": ("sps", "ngram"),
}  # by the options that name them: method and source
WORTH = 1.05  # speedup below which a draft is not worth its memory
SHOWN_ROWS = 8
CONTEXT, REPEATS = 128, 5  # of the forwards that are timed


@dataclass(frozen=True, slots=True)
class Trial:
    """What every way is tried on."""

    prompts: Sequence[str]
    max_new_tokens: int

    @property
    def steps(self) -> int:
        """What `measure` tells of as done."""
        return 1 + len(WAYS)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured of one draft.

    c: draft steps that take as long as a target forward. rows_cost: a target forward of 8 rows over
    one of 1. agreement: the share of the draft's first guesses that held. speedups: by way, over
    plain decoding.
    """

    draft: str
    c: float
    rows_cost: float
    agreement: float
    speedups: Mapping[str, float]

    @property
    def best(self) -> str:
        return max(self.speedups, key=self.speedups.__getitem__)


def measure(pair: ModelPair, trial: Trial, done: Callable[[], None]) -> Finding:
    """Time forwards of both models, then all ways on the same prompts. done: called `trial.steps`
    times."""
    seconds = forward_seconds(pair)
    done()
    stats: dict[str, Stats] = {}
    for way, (method, source) in WAYS.items():
        stats[way] = try_way(Session(pair, source=source), method, trial)
        done()
    plain = stats[BASELINE].tokens_per_s
    return Finding(
        pair.draft_name,
        seconds["target", 1] / seconds["draft", 1],
        seconds["target", SHOWN_ROWS] / seconds["target", 1],
        stats["sps"].acceptance_rate,
        {way: each.tokens_per_s / plain for way, each in stats.items()},
    )


def forward_seconds(pair: ModelPair) -> dict[tuple[str, int], float]:
    """Median seconds of forwards by lane and rows, each lane alone."""
    with default_lanes(pair, overlap=True) as lanes:
        timer = PairTimer(pair, lanes, context=CONTEXT, repeats=REPEATS)
        alone = takewhile(lambda each: not each.contended, timer.measurements())
        return {(each.lane, each.rows): each.seconds for each in alone}


def try_way(session: Session, method: str, trial: Trial) -> Stats:
    """A method on all prompts, one after the other, warmed up."""
    params = SamplingParams(max_new_tokens=trial.max_new_tokens, ignore_eos=True)
    longest = max(len(session.pair.encode(prompt)) for prompt in trial.prompts)
    with open_engine(session, method, longest + trial.max_new_tokens) as engine:
        warm_up(engine, trial.prompts[0], params)
        return Stats.pooled([engine.generate(prompt, params).stats for prompt in trial.prompts])


def findings_table(findings: Sequence[Finding]) -> Table:
    """A row a draft: the three numbers that decide, then the speedups."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
    for column in ("draft", "c", "agreement", f"{SHOWN_ROWS} rows cost", *WAYS):
        table.add_column(column, justify="right")
    first = table.columns[0]
    first.justify, first.max_width, first.overflow = "left", 24, "fold"
    for each in findings:
        table.add_row(
            each.draft,
            f"{each.c:.1f}",
            f"{each.agreement:.0%}",
            f"{each.rows_cost:.1f}x",
            *(f"{each.speedups[way]:.2f}x" for way in WAYS),
        )
    return table


def verdict(findings: Sequence[Finding]) -> list[str]:
    """What to take, and why, in a line each."""
    best = max(findings, key=lambda each: each.speedups[each.best])
    speedup = best.speedups[best.best]
    if speedup < WORTH:
        return [f"take none: --method {BASELINE} is as fast as anything tried", *map(why, findings)]
    _, source = WAYS[best.best]
    draft = f"--draft {best.draft} " if source == "model" else ""
    return [
        f"take {draft}--method {best.best}: {speedup:.2f}x as fast as plain decoding",
        why(best),
    ]


def why(finding: Finding) -> str:
    """The three numbers in words."""
    return (
        f"{finding.draft}: a target forward takes {finding.c:.1f} draft steps; the draft's first "
        f"guess is right in {finding.agreement:.0%} of the cases; {SHOWN_ROWS} rows cost "
        f"{finding.rows_cost:.1f} times one"
    )
