"""SVG as text: shapes, and a request's lanes over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from specbranch.looks import LANES, ORIGIN_COLORS
from specbranch.stats import Stats
from specbranch.timeline import rounds, styled
from specbranch.trace import Trace

LANE, GAP = 16, 4  # pixels: a lane's height, and what is between two
COMMITS = 16  # the height of what the rounds commit


def shape(tag: str, content: str = "", **attributes: object) -> str:
    """An element; `content` is markup, values of attributes are escaped, and `_` stands for `-` in
    their names."""
    pairs = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{pairs}>{content}</{tag}>"


def words(x: float, y: float, text: str, **attributes: object) -> str:
    """Text, escaped."""
    return shape("text", escape(text), x=x, y=y, **attributes)


def lanes_height() -> int:
    """Pixels of `lanes`."""
    return len(LANES) * (LANE + GAP) + COMMITS


def lane_names(x: float, y: float, **attributes: object) -> list[str]:
    """The lanes' names, beside what `lanes` draws at the same y."""
    return [
        words(x, y + 12 + row * (LANE + GAP), lane, font_size=11, **attributes)
        for row, lane in enumerate(LANES)
    ]


def lanes(
    trace: Trace, stats: Stats, y: float, x_of: Callable[[float], float], end: float
) -> Iterable[str]:
    """Both lanes up to `end`, draft above target, and under them what the rounds commit.

    The colour of a round's `+n` says how its last token came. x_of: a moment's place in pixels.
    """
    for row, lane in enumerate(LANES):
        for span, style, shade in styled(trace, lane):
            if span.start <= end:
                left, right = x_of(span.start), x_of(min(span.end, end))
                yield shape(
                    "rect",
                    shape("title", f"{style.name}, {span.rows} rows" if span.rows else style.name),
                    x=left,
                    y=y + row * (LANE + GAP),
                    width=max(0.5, right - left),
                    height=LANE,
                    fill=style.shades[shade],
                )
    below = y + len(LANES) * (LANE + GAP)
    for done in rounds(trace, stats):
        if done.end <= end:
            x, color = x_of(done.end), ORIGIN_COLORS[done.origin]
            yield shape("line", x1=x, x2=x, y1=y, y2=below, stroke=color, stroke_dasharray="1 2")
            yield words(
                x, below + 10, f"+{done.tokens}", fill=color, font_size=11, text_anchor="end"
            )


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
