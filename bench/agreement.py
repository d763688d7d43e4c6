"""How often a draft is right, by kind of prompt: `python -m bench.agreement --drafts DRAFT ...`.

On recorded texts of the target, the share of tokens that are the draft's first guess, and among its
first four. At temperature 1 guesses are made with the noise that the target draws with.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench import markdown
from bench.prompts import EVALUATION
from bench.recordings import SETS, Case, Recordings, cases
from specbranch.files import write_whole
from specbranch.replay import Place

RANKS = 4
HEADER = ("draft", "temperature", *SETS, "all", f"among {RANKS}", "tokens")


def ranks(recordings: Recordings, case: Case) -> list[int]:
    """Of each token of a text, its place among the draft's guesses; RANKS if it is none of them."""
    text, laws = recordings.recording(case).text, recordings.laws(case)
    found = laws.laws([Place(position) for position in range(len(text))])
    recordings.save(case, laws)
    guesses = (law.ids[:RANKS] for law in found)
    return [
        ids.index(token) if token in ids else RANKS
        for ids, token in zip(guesses, text, strict=True)
    ]


def row(draft: str, temperature: float, by_set: dict[str, list[int]]) -> list[str]:
    """Of the table."""
    every = [rank for found in by_set.values() for rank in found]
    firsts = [*by_set.values(), every]
    shares = [sum(rank == 0 for rank in found) / len(found) for found in firsts]
    among = sum(rank < RANKS for rank in every) / len(every)
    numbers = (f"{share:.3f}" for share in (*shares, among))
    return [f"`{draft}`", f"{temperature:g}", *numbers, str(len(every))]


def rows(recordings: Recordings, wanted: Sequence[Case], bar: Progress) -> Iterator[list[str]]:
    """A row for each temperature."""
    found = {case: ranks(recordings, case) for case in bar.track(wanted, description="texts")}
    for temperature in dict.fromkeys(case.temperature for case in wanted):
        by_set: dict[str, list[int]] = {name: [] for name in SETS}
        for case, places in found.items():
            if case.temperature == temperature:
                by_set[case.prompts] += places
        yield row(recordings.draft, temperature, by_set)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="builtin:smollm2")
    parser.add_argument("--drafts", nargs="+", required=True)
    parser.add_argument("--prompts", type=int, default=EVALUATION, help="of each set")
    parser.add_argument("--out", type=Path, default=Path("build/bench/agreement.md"))
    options = parser.parse_args()
    wanted = cases(0, options.prompts)
    with Progress(console=Console(stderr=True)) as bar:
        table = [
            each
            for draft in options.drafts
            for each in rows(Recordings(options.target, draft), wanted, bar)
        ]
    lines = ["# How often first guesses are right", "", *markdown.table(HEADER, *table)]
    write_whole(options.out, "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
