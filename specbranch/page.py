"""A run as one HTML file that needs nothing else: text by how its tokens came, and the lanes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from specbranch.files import write_whole
from specbranch.generation import Generation
from specbranch.pictures import ORIGIN_COLORS
from specbranch.stopping import Transcript
from specbranch.svg import lane_names, lanes, lanes_height, shape, words
from specbranch.timeline import STYLES
from specbranch.trace import Label

FORWARD = 48.0  # pixels of a target forward
MARGIN, TICKS = 56, 8
EXPLAINED = {
    "accepted": "submitted and accepted",
    "won": "guessed by a branch while the target worked",
    "missed": "nobody had guessed it",
}
STYLE = """\
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: #24292f; background: #fff; }
h1 { font-size: 1.2rem; } .note { color: #6e7781; font-size: .85rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.text span { border-bottom: 2px solid; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1em; }
.lanes { overflow-x: auto; } svg { display: block; fill: currentColor; }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117; } }
"""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows.

    record: the run under plain keys, which the page holds as JSON, too. pieces: the text of each
    token.
    """

    record: dict[str, Any]
    generation: Generation
    pieces: Sequence[str]

    def save(self, path: str | Path) -> None:
        """Write the page, as UTF-8."""
        write_whole(path, "\n".join(self._lines()) + "\n")

    def _lines(self) -> Iterator[str]:
        method, stats = self.record["method"], self.generation.stats
        title = escape(f"{method}: {stats.tokens} tokens")
        figures = f"M {stats.mean_accepted_length:.2f}, accepted {stats.acceptance_rate:.0%}"
        yield "<!doctype html>"
        yield '<html lang="en"><head><meta charset="utf-8">'
        yield '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        yield "style-src 'unsafe-inline'\">"
        yield '<meta name="viewport" content="width=device-width">'
        yield f"<title>{title}</title><style>{STYLE}{_colors()}</style></head><body>"
        yield f"<h1>{title}</h1>"
        yield f'<p class="note">{escape(self.record["prompt"])}</p>'
        yield f'<p class="text">{"".join(self._tokens())}</p>'
        yield f'<p class="note">{_key()}</p>'
        yield f'<div class="lanes">{self._drawing()}</div>'
        yield f'<p class="note">{escape(self._time())} {escape(figures)}.</p>'
        yield f'<script type="application/json" id="run">{self._data()}</script>'
        yield "</body></html>"

    def _tokens(self) -> Iterator[str]:
        ids, origins = self.generation.token_ids, self.generation.stats.origins
        for token, origin, piece in zip(ids, origins, self.pieces, strict=True):
            told = escape(f"{token}: {EXPLAINED[origin]}")
            yield f'<span class="{origin}" title="{told}">{escape(piece)}</span>'

    def _drawing(self) -> str:
        """The lanes, a target forward so wide that steps can be told apart."""
        trace, stats = self.generation.trace, self.generation.stats
        times = [span.end - span.start for span in trace.spans if span.label == Label.TARGET]
        end = max((span.end for span in trace.spans), default=1.0)
        scale = FORWARD / fmean(times) if times else FORWARD / end
        names = lane_names(0, 0)
        bars = lanes(trace, stats, 0, lambda moment: MARGIN + scale * moment, end)
        below = lanes_height() + 14
        ticks = [
            words(MARGIN + scale * at, below, f"{at:.2f}", font_size=10, opacity=0.6)
            for at in (end * tick / TICKS for tick in range(TICKS))
        ]
        width = int(MARGIN + scale * end) + 8
        return shape("svg", "".join([*names, *bars, *ticks]), width=width, height=below + 4)

    def _time(self) -> str:
        env, stats = self.record["env"], self.generation.stats
        unit = "s" if env["clock_unit"] == "s" else f"{env['clock_unit']}s"
        models = f"target {env['target']}, draft {env['draft']}"
        return f"{stats.wall_s:.2f} {unit} on {env['cpu']}, {models}."

    def _data(self) -> str:
        spans = [span._asdict() for span in self.generation.trace.spans]
        data = {**self.record, "pieces": list(self.pieces), "spans": spans}
        return json.dumps(data).replace("<", "\\u003c")  # no text may end the element


def pieces_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """The text of each token; one that completes no character has none."""
    transcript = Transcript(tokenizer, (), (), len(token_ids))
    return [transcript.commit([token])[1] for token in token_ids]


def _colors() -> str:
    rules = (f".{name} {{ border-color: {color}; }}" for name, color in ORIGIN_COLORS.items())
    return "\n".join(rules)


def _key() -> str:
    kinds = [(color, EXPLAINED[name]) for name, color in ORIGIN_COLORS.items()]
    kinds += [(STYLES[each].shades[0], STYLES[each].name) for each in (Label.DRAFT, Label.TARGET)]
    return " ".join(
        f'<span class="key" style="background: {color}"></span>{escape(text)}'
        for color, text in kinds
    )
