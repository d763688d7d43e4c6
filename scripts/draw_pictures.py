"""Draws docs/lanes.svg and docs/tree.svg, from one request decoded by each of three methods.

Real tokens of the built-in model and its ten-layer draft, on a virtual clock, so that the pictures
are the same on every machine: a target forward takes as long as six draft steps, rows are free.

    python scripts/draw_pictures.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from svg import lane_names, lanes, lanes_height, shape, words

from specbranch import Engine, Generation, SamplingParams, load_pair, make_policy
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.lanes import VirtualLanes
from specbranch.looks import ORIGIN_COLORS, STYLES
from specbranch.pictures import METHOD_COLORS
from specbranch.request import Request
from specbranch.timeline import rounds
from specbranch.trace import Label
from specbranch.tree import Walk

DOCS = Path(__file__).parents[1] / "docs"
PROMPT = "Write a Python function that returns the n-th Fibonacci number, and say how fast it is."
METHODS = ("ar", "sps", "specbranch")
C, TOKENS = 6, 96
SHOWN = 20 * C  # draft steps of the picture
COLUMNS, COLUMN, NODE, LINE = 9, 104, 90, 32  # of the tree, in pixels but the first
PAPER, INK, FAINT = "#ffffff", "#24292f", "#6e7781"
GONE, ALIVE = "#c8ccd1", "#eee6f9"


@dataclass(frozen=True)
class Round:
    """A tree when its verdict fell. words: of each node; the target's choice at the walk's end."""

    words: list[str]
    parents: list[int]
    submitted: list[int]
    walk: Walk
    choice: str


class Witness:
    """A target that notes the trees which it gives its verdict on."""

    def __init__(self, target, tokenizer) -> None:
        self._target = target
        self._tokenizer = tokenizer
        self.rounds: list[Round] = []

    def __getattr__(self, name: str):
        return getattr(self._target, name)

    def verify(self, requests: Sequence[Request], logits) -> list[Walk | None]:
        walks = self._target.verify(requests, logits)
        for request, walk in zip(requests, walks, strict=True):
            tree = request.tree
            tokens = [*tree.token.tolist(), walk.next_token]
            *guesses, choice = (shown(self._tokenizer.decode([token])) for token in tokens)
            parents = tree.parent.tolist()
            self.rounds.append(Round(guesses, parents, list(tree.submitted), walk, choice))
        return walks


def shown(text: str) -> str:
    """A token's text with its white space visible."""
    return text.replace("\n", "⏎").replace(" ", "·") or "∅"


def decoded(pair, method: str) -> tuple[Generation, list[Round]]:
    """The request by a method, and its rounds."""
    virtual = VirtualLanes(CostModel.parse(f"virtual:c={C}"))
    with Engine(pair, make_policy(method), lanes=virtual, max_len=256) as engine:
        witness = Witness(engine._loop._target, pair.tokenizer)
        engine._loop._target = witness
        generation = engine.generate(PROMPT, SamplingParams(max_new_tokens=TOKENS))
    return generation, witness.rounds


def page(width: int, height: int, title: str, body: Iterable[str]) -> str:
    """An SVG on paper of its own, so that it reads on dark pages, too."""
    paper = shape("rect", width=width, height=height, rx=8, fill=PAPER)
    return shape(
        "svg",
        shape("title", title) + paper + "".join(body),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        font_family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
        font_size=12,
        fill=INK,
    )


def legend(entries: Iterable[tuple[str, str]], x: float, y: float) -> Iterator[str]:
    """Coloured squares and what they stand for, in a row."""
    for color, text in entries:
        yield shape("rect", x=x, y=y - 9, width=10, height=10, rx=2, fill=color)
        yield words(x + 14, y, text, font_size=11, fill=FAINT)
        x += 26 + 6.1 * len(text)


def lanes_picture(generations: dict[str, Generation]) -> str:
    """The three methods' lanes over one axis."""
    left, right, top, block = 150, 960, 48, lanes_height() + 26
    height = top + block * len(generations) + 44
    start = max(
        span.end
        for each in generations.values()
        for span in each.trace.spans
        if span.label == Label.PREFILL
    )

    def x_of(moment: float) -> float:
        return left + (right - left) * (moment - start) / SHOWN

    def body() -> Iterator[str]:
        title = "The same text by three methods, over the same time"
        yield words(20, 26, title, font_size=15, font_weight=600)
        for place, (method, generation) in enumerate(generations.items()):
            y = top + place * block
            yield words(20, y + 14, method, font_weight=600, fill=METHOD_COLORS[method])
            yield words(20, y + 32, f"{written(generation, start)} tokens", font_size=11)
            yield from lane_names(left - 8, y, text_anchor="end")
            yield from lanes(generation.trace, generation.stats, y, x_of, start + SHOWN)
        axis = top + block * len(generations) - 6
        yield shape("line", x1=left, x2=right, y1=axis, y2=axis, stroke=FAINT)
        for step in range(0, SHOWN + 1, 4 * C):
            yield words(
                x_of(start + step), axis + 14, f"{step}", font_size=10, text_anchor="middle"
            )
        unit = "draft steps since the prompt was read; a target forward takes six"
        yield words(right, axis + 32, unit, font_size=11, fill=FAINT, text_anchor="end")
        kinds = [(STYLES[label].shades[0], STYLES[label].name) for label in ("draft", "target")]
        ends = [
            (ORIGIN_COLORS["won"], "+n: a branch had the next token"),
            (ORIGIN_COLORS["missed"], "+n: nothing had"),
        ]
        yield from legend([*kinds, *ends], 20, axis + 32)

    return page(980, height, "ar, sps and specbranch over one time axis", body())


def written(generation: Generation, start: float) -> int:
    """Tokens that were committed in the time shown."""
    done = rounds(generation.trace, generation.stats)
    return sum(each.tokens for each in done if each.end <= start + SHOWN)


def laid_out(parents: Sequence[int]) -> list[tuple[int, float]]:
    """Depth and line of each node: leaves on lines of their own, a parent on its first child's."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    places: list[tuple[int, float]] = [(0, 0)] * len(parents)
    lines = 0

    def place(node: int, depth: int) -> None:
        nonlocal lines
        places[node] = (depth, lines)
        for at, child in enumerate(children.get(node, ())):
            lines += at > 0
            place(child, depth + 1)

    place(0, 0)
    return places


def tree_body(round: Round, y: float) -> Iterator[str]:
    """A round's tree at its verdict, from left to right."""
    places = laid_out(round.parents)
    path, winner = set(round.walk.path), round.walk.winner
    living = {winner} if winner >= 0 else set()
    for node, parent in enumerate(round.parents):
        if parent in living:
            living.add(node)

    def corner(depth: int, at: float) -> tuple[float, float]:
        return 24 + depth * COLUMN, y + at * LINE

    for node, parent in enumerate(round.parents):
        if parent >= 0:
            kept = node in path or node in living
            yield edge(corner(*places[parent]), corner(*places[node]), INK if kept else GONE)
    for node, text in enumerate(round.words):
        yield from box(*corner(*places[node]), text, node_style(round, node, path, living))
    if winner < 0:
        depth, at = places[round.walk.path[-1]]
        below = corner(depth + 1, max(at for _, at in places) + 1)
        yield edge(corner(depth, at), below, INK, stroke_dasharray="3 3")
        yield from box(*below, round.choice, filled(ORIGIN_COLORS["missed"]))


def edge(
    parent: tuple[float, float], child: tuple[float, float], color: str, **more: object
) -> str:
    """A line from a node's right side to another's left."""
    x, y = parent[0] + NODE, parent[1] + 11
    end, lower = child[0], child[1] + 11
    middle = (x + end) / 2
    curve = f"M{x} {y}C{middle} {y} {middle} {lower} {end} {lower}"
    return shape("path", d=curve, fill="none", stroke=color, **more)


def filled(color: str) -> dict[str, str]:
    return {"fill": color, "ink": PAPER, "stroke": color}


def node_style(round: Round, node: int, path: set[int], living: set[int]) -> dict[str, str]:
    """How a node looks: what became of it; what was submitted in vain keeps a dark border."""
    if node == 0:
        return filled(INK)
    if node in path:
        return filled(ORIGIN_COLORS["accepted"])
    if node == round.walk.winner:
        return filled(ORIGIN_COLORS["won"])
    if node in living:
        return {"fill": ALIVE, "ink": INK, "stroke": ORIGIN_COLORS["won"]}
    seen = node in round.submitted
    return {"fill": PAPER, "ink": FAINT, "stroke": FAINT if seen else GONE, "line": "line-through"}


def box(x: float, y: float, text: str, style: dict[str, str]) -> Iterator[str]:
    """A node."""
    fill, stroke = style["fill"], style["stroke"]
    yield shape("rect", x=x, y=y, width=NODE, height=22, rx=5, fill=fill, stroke=stroke)
    yield words(
        x + NODE / 2,
        y + 15,
        text[:12],
        text_anchor="middle",
        fill=style["ink"],
        font_size=11,
        font_family="ui-monospace, Menlo, Consolas, monospace",
        text_decoration=style.get("line", "none"),
    )


def tree_picture(hit: Round, miss: Round) -> str:
    """A round that ended on a branch, and one that ended on a token which nobody had guessed."""

    def lines(round: Round) -> int:
        return 1 + int(max(at for _, at in laid_out(round.parents)))

    second = 76 + LINE * lines(hit) + 34
    height = second + LINE * (lines(miss) + 1) + 36

    def body() -> Iterator[str]:
        title = "Two rounds, when the target's answer came"
        yield words(20, 26, title, font_size=15, font_weight=600)
        lost = "all is rolled back, drafting begins anew"
        for y, title, round, origin in (
            (54, "Hit: a branch had the next token; what it drafted lives on", hit, "won"),
            (second - 22, f"Miss: none had it; {lost}", miss, "missed"),
        ):
            yield words(20, y, title, fill=ORIGIN_COLORS[origin])
            yield from tree_body(round, y + 14)
        entries = [
            (INK, "root: last committed token"),
            (ORIGIN_COLORS["accepted"], "submitted, accepted"),
            (ORIGIN_COLORS["won"], "the winning branch"),
            (ALIVE, "lives on"),
            (ORIGIN_COLORS["missed"], "the target's own token"),
            (GONE, "rolled back (dark: submitted)"),
        ]
        yield from legend(entries, 20, height - 16)

    return page(24 + COLUMNS * COLUMN + 20, height, "the tree of two rounds", body())


def telling(trees: Sequence[Round], hit: bool) -> Round:
    """The round of that kind that shows most on a page: branches, accepted tokens, few nodes."""

    def score(round: Round) -> tuple[bool, bool, bool, int]:
        branches = len(round.parents) - len(set(round.parents))
        deepest = max(depth for depth, _ in laid_out(round.parents))
        fits = len(round.parents) <= 22 and deepest < COLUMNS
        return fits, branches > 1, len(round.walk.path) > 1, branches

    return max((each for each in trees if (each.walk.winner >= 0) is hit), key=score)


def main() -> None:
    pair = load_pair("builtin:smollm2", "builtin:smollm2-draft-10")
    runs = {method: decoded(pair, method) for method in METHODS}
    texts = {generation.text for generation, _ in runs.values()}
    assert len(texts) == 1, texts
    write_whole(DOCS / "lanes.svg", lanes_picture({m: run for m, (run, _) in runs.items()}))
    trees = runs["specbranch"][1]
    write_whole(DOCS / "tree.svg", tree_picture(telling(trees, True), telling(trees, False)))


if __name__ == "__main__":
    main()
