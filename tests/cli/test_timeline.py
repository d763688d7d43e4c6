"""Pictures of a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbranch.looks import OTHER
from specbranch.stats import Stats
from specbranch.timeline import Round, draw_lanes, rounds, save_timeline, steady_window
from specbranch.trace import Span, Trace

TRACE = Trace(
    [
        Span("target", "prefill", 0.0, 1.0),
        Span("draft", "draft", 1.0, 2.0, 1),
        Span("draft", "draft", 2.0, 3.0, 1),
        Span("target", "target", 1.0, 4.9, 3),
        Span("target", "verify", 4.9, 4.91),
        Span("draft", "draft", 5.0, 6.0, 1),
        Span("target", "target", 5.0, 8.9, 3),
        Span("target", "verify", 8.9, 8.91),
    ]
)

STATS = Stats(accepted_lengths=[3, 1], origins=["accepted", "accepted", "won", "missed"])


def test_rounds_end_with_their_verdict() -> None:
    assert rounds(TRACE, STATS) == [Round(4.91, 3, "won"), Round(8.91, 1, "missed")]


def test_steady_window_lies_after_the_prefill() -> None:
    first, last = steady_window(TRACE, 1)  # target forwards take 3.9 s
    assert last - first == pytest.approx(3.9)
    assert (first + last) / 2 == pytest.approx((1.0 + 8.91) / 2)
    assert steady_window(TRACE, 100) == (1.0, 8.91)
    assert steady_window(Trace(), 1) == (0.0, 0.0)


def test_lanes_on_screen_are_busy_where_the_spans_are() -> None:
    text = draw_lanes(TRACE, STATS, (0.0, 10.0), 20)  # half a second a cell
    draft, target, commits, ticks, legend = text.plain.split("\n")
    assert draft == "  draft " + " " * 2 + "██▓▓" + " " * 4 + "██" + " " * 8
    assert target == " target " + "░░" + "█" * 7 + "┃" + "▓" * 7 + "┃" + " " * 2
    assert commits == "commits " + " " * 9 + "+3" + " " * 6 + "+1"
    assert ticks.split() == ["|0.00s", "|4.00s"]
    assert "draft step" in legend
    assert "target forward" in legend


def test_what_the_classifier_takes_is_drawn(tmp_path: Path) -> None:
    with_hrad = Trace([*TRACE.spans, Span("target", "hrad", 8.96, 8.97)])
    save_timeline(with_hrad, STATS, tmp_path / "a.png")
    assert "▒" in draw_lanes(with_hrad, STATS, (8.0, 9.0), 20).plain.split("\n")[1]
    assert "H-RAD" not in draw_lanes(TRACE, STATS, (8.0, 9.0), 20).plain


def test_work_of_another_label_is_drawn_as_other_work(tmp_path: Path) -> None:
    generated = Trace([*TRACE.spans, Span("target", "generate", 9.0, 10.0)])
    text = draw_lanes(generated, STATS, (9.0, 10.0), 20).plain
    assert "·" * 20 in text.split("\n")[1]
    assert "other work" in text
    assert "other work" not in draw_lanes(TRACE, STATS, (0.0, 9.0), 20).plain
    save_timeline(generated, STATS, tmp_path / "a.svg")
    assert OTHER.shades[0] in (tmp_path / "a.svg").read_text()


def test_timeline_formats(tmp_path: Path) -> None:
    save_timeline(TRACE, STATS, tmp_path / "a.png")
    save_timeline(TRACE, STATS, tmp_path / "b.svg", window=(4.0, 6.0))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "b.svg").read_text()
    assert "<svg" in svg
    save_timeline(Trace(), Stats(), tmp_path / "empty.png")
