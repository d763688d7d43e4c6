"""Pictures of a trace: the lanes over time, what each does, and what every round commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rich.text import Text

from specbranch.looks import LANES, ORIGIN_COLORS, OTHER, STYLES, Style
from specbranch.pictures import save_picture
from specbranch.stats import Origin, Stats
from specbranch.trace import Label, Span, Trace

DRAWN_FORWARDS = 30  # that a picture has room for


# Too short to win a cell by duration: they win it by rank.
INSTANT = (Label.COMMIT, Label.HRAD, Label.VERIFY)


@dataclass(frozen=True, slots=True)
class Round:
    """When a round's verdict fell, how many tokens it committed, and how the last of them came."""

    end: float
    tokens: int
    origin: Origin


def rounds(trace: Trace, stats: Stats) -> list[Round]:
    """The rounds of a request that committed something."""
    verdicts = [span.end for span in trace.spans if span.label == Label.VERIFY]
    totals = accumulate(stats.accepted_lengths)
    return [
        Round(end, tokens, stats.origins[total - 1])
        for end, tokens, total in zip(verdicts, stats.accepted_lengths, totals, strict=False)
        if tokens
    ]


def steady_window(trace: Trace, forwards: int) -> tuple[float, float]:
    """A window about as long as so many target forwards, in the middle of the request, the prefill
    left out."""
    times = [span.end - span.start for span in trace.spans if span.label == Label.TARGET]
    seconds = forwards * fmean(times) if times else 0.0
    start = max((span.end for span in trace.spans if span.label == Label.PREFILL), default=0.0)
    end = max((span.end for span in trace.spans), default=0.0)
    first = max(start, (start + end - seconds) / 2)
    return first, min(first + seconds, end)


def save_timeline(
    trace: Trace,
    stats: Stats,
    path: str | Path,
    window: tuple[float, float] | None = None,
) -> None:
    """Draw lanes as rows and spans as bars, with a line at each round's end, whose colour says how
    the round's last token came.

    window: (from, to) in seconds, the whole request by default. Raises ValueError for a
    suffix that names no format.
    """
    start, end = window or (0.0, max((span.end for span in trace.spans), default=1.0))
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for row, lane in enumerate(LANES):
        for span, style, shade in styled(trace, lane):
            if span.end > start and span.start < end:
                width, color = span.end - span.start, style.shades[shade]
                axes.barh(row, width, left=span.start, height=0.7, color=color)
    for done in rounds(trace, stats):
        if start <= done.end <= end:
            color, told = ORIGIN_COLORS[done.origin], f"+{done.tokens}"
            axes.vlines(done.end, -0.45, 1.4, color=color, linewidth=0.6, linestyle=":")
            axes.text(done.end, 1.45, told, color=color, ha="center", va="top", fontsize=8)
    axes.set_xlim(start, end)
    axes.set_ylim(1.75, -0.5)
    axes.set_yticks(range(len(LANES)), LANES)
    axes.set_xlabel("seconds since the request began; +n: tokens that a round commits")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = [Patch(color=style.shades[0], label=style.name) for style in _present(trace)]
    ends = [
        Line2D([], [], color=ORIGIN_COLORS[origin], linestyle=":", label=told)
        for origin, told in (("won", "a branch had the next token"), ("missed", "nothing had"))
    ]
    legend: list[Artist] = [*kinds, *ends]
    figure.legend(handles=legend, loc="outside upper center", ncols=len(legend), frameon=False)
    save_picture(figure, path)


def draw_lanes(trace: Trace, stats: Stats, window: tuple[float, float], width: int) -> Text:
    """The same for a terminal: a row of `width` cells for each lane, draft above target, then what
    the rounds commit, then the seconds."""
    start, end = window
    cell_s = (end - start) / width
    text = Text(no_wrap=True)
    for lane in LANES:
        text.append(f"{lane:>7} ")
        for glyph, color in _cells(trace, lane, start, cell_s, width):
            text.append(glyph, style=color)
        text.append("\n")
    committed = [
        (done.end, f"+{done.tokens}") for done in rounds(trace, stats) if start <= done.end < end
    ]
    text.append(f"{'commits':>7} {_placed(committed, start, cell_s, width)}\n", style="bold")
    times = [start + fifth * (end - start) / 5 for fifth in range(5)]
    ticks = [(time, f"|{time:.2f}s") for time in times]
    text.append(f"{'':>7} {_placed(ticks, start, cell_s, width)}\n", style="dim")
    text.append(f"{'':>7} ")
    for style in _present(trace):
        if style is not STYLES[Label.PREFILL]:
            text.append(style.glyphs, style=style.color).append(f" {style.name}   ")
    return text


def _present(trace: Trace) -> list[Style]:
    """The styles of a trace's spans, in the order of a legend."""
    labels = {span.label for span in trace.spans}
    known = [style for label, style in STYLES.items() if label in labels]
    return [*known, OTHER] if labels - STYLES.keys() else known


def styled(trace: Trace, lane: str) -> list[tuple[Span, Style, int]]:
    """The lane's spans, in order, each with its style and which of the two shades it takes."""
    seen: Counter[str] = Counter()
    styled = []
    for span in sorted((s for s in trace.spans if s.lane == lane), key=lambda s: s.start):
        styled.append((span, STYLES.get(span.label, OTHER), seen[span.label] % 2))
        seen[span.label] += 1
    return styled


def _cells(
    trace: Trace, lane: str, start: float, cell_s: float, width: int
) -> list[tuple[str, str]]:
    """Glyph and colour of each cell: the work that took most of it, or an instant one within it."""
    best = [(0.5 * cell_s, " ", "")] * width
    for span, style, shade in styled(trace, lane):
        if span.end <= start or span.start >= start + width * cell_s:
            continue
        first = max(0, int((span.start - start) / cell_s))
        last = min(width - 1, int((span.end - start) / cell_s))
        for cell in range(first, last + 1):
            left = start + cell * cell_s
            weight = min(span.end, left + cell_s) - max(span.start, left)
            if span.label in INSTANT:
                weight = cell_s * (2 + INSTANT.index(span.label))
            if weight > best[cell][0]:
                best[cell] = (weight, style.glyphs[shade], style.color)
    return [(glyph, color) for _, glyph, color in best]


def _placed(labels: Sequence[tuple[float, str]], start: float, cell_s: float, width: int) -> str:
    """Labels written at their times; one that would run into another, or out, is left out."""
    line = ""
    for time, label in labels:
        column = int((time - start) / cell_s)
        if (column > len(line) or not line) and column + len(label) <= width:
            line = line.ljust(column) + label
    return line
