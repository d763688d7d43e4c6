"""What each lane did and when: the data behind the timeline picture and the overlap figure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from specbranch.files import write_whole

Interval = tuple[float, float]


class Label:
    """What a span's work is, where the loop gave it; lanes take any other text too."""

    PREFILL = "prefill"
    DRAFT = "draft"  # a draft step
    TARGET = "target"  # a target forward
    VERIFY = "verify"
    COMMIT = "commit"
    HRAD = "hrad"
    WARM_UP = "warm-up"


class Span(NamedTuple):
    """One piece of work on one lane; seconds of the lanes' clock since the request began."""

    lane: str
    label: str
    start: float
    end: float
    rows: int = 0  # tokens of a decoding forward, 0 for other work

    def after(self, moment: float) -> Span:
        """The same in seconds since that moment."""
        return Span(self.lane, self.label, self.start - moment, self.end - moment, self.rows)


@dataclass(slots=True)
class Trace:
    """The spans of one request, in the order in which they ended."""

    spans: list[Span] = field(default_factory=list)

    def seconds(self, label: str) -> float:
        """Time of all work of that label."""
        return sum(span.end - span.start for span in self.spans if span.label == label)

    def since(self, moment: float) -> Trace:
        """The same in seconds since that moment."""
        return Trace([span.after(moment) for span in self.spans])

    def cost_ratio(self) -> float:
        """c: mean seconds of a target forward over those of a draft step; 0 without either."""
        return cost_ratio(seconds_of(self.spans, "draft"), seconds_of(self.spans, "target"))

    def save(self, path: str | Path, verdicts: Sequence[Mapping[str, object]] = ()) -> None:
        """Write Chrome's trace-event JSON, which Perfetto and chrome://tracing open.

        verdicts: what is told beside each round's verification.
        """
        told, lanes = iter(verdicts), sorted({span.lane for span in self.spans})
        events: list[dict[str, Any]] = [
            {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "specbranch"}},
            *(
                {"ph": "M", "name": "thread_name", "pid": 0, "tid": lanes.index(lane)}
                | {"args": {"name": f"{lane} lane"}}
                for lane in lanes
            ),
        ]
        events += [
            {
                "ph": "X",
                "name": span.label,
                "pid": 0,
                "tid": lanes.index(span.lane),
                "ts": span.start * 1e6,
                "dur": (span.end - span.start) * 1e6,
                "args": next(told, {}) if span.label == Label.VERIFY else {"rows": span.rows},
            }
            for span in self.spans
        ]
        write_whole(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def seconds_of(spans: Iterable[Span], lane: str) -> list[float]:
    """Of each of its decoding forwards."""
    return [span.end - span.start for span in spans if span.lane == lane and span.rows]


def cost_ratio(draft: Collection[float], target: Collection[float]) -> float:
    """Mean of the target's seconds over that of the draft's; 0 while either is missing."""
    if not (sum(draft) and sum(target)):
        return 0.0
    return (sum(target) / len(target)) / (sum(draft) / len(draft))


def overlap(spans: Iterable[Span], lane: str, other: str) -> float:
    """The fraction of `lane`'s busy time during which `other` is busy too.

    Only decoding forwards count. Both lanes prefill and commit at the same time under every
    method, which is no merit of its schedule.
    """
    mine, others = busy(spans, lane), busy(spans, other)
    total = sum(end - start for start, end in mine)
    return shared(mine, others) / total if total > 0 else 0.0


def busy(spans: Iterable[Span], lane: str) -> list[Interval]:
    """When the lane runs decoding forwards: intervals, merged and sorted."""
    return merged((span.start, span.end) for span in spans if span.lane == lane and span.rows)


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times, sorted, as intervals that do not touch."""
    apart: list[Interval] = []
    for start, end in sorted(intervals):
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart


def shared(intervals: Sequence[Interval], others: Sequence[Interval]) -> float:
    """Length of what two lists of merged, sorted intervals have in common."""
    length, i, j = 0.0, 0, 0
    while i < len(intervals) and j < len(others):
        (start, end), (other_start, other_end) = intervals[i], others[j]
        length += max(0.0, min(end, other_end) - max(start, other_start))
        if end < other_end:
            i += 1
        else:
            j += 1
    return length
