"""What is asked: questions of four kinds, some in two turns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from bench.prompts import FOLDER
from specbranch.checks import require
from specbranch.prompts import EXAMPLE_PROMPTS

SETS = {
    "code": "humaneval",
    "math": "gsm8k",
    "chat": "mtbench",
    "news": "news",
    "edits": "edits",
}
CATEGORIES = ("code", "math", "chat", "news")
NEWS = (
    "Summarize this news article in a few sentences.\n\nThe town council voted on Tuesday to "
    "reopen the old railway bridge to walkers and cyclists next spring. Repairs will cost two "
    "million euros, half of which the region pays. Shopkeepers on the south bank had asked for "
    "the crossing for years."
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks, turn by turn; every turn but the first follows the model's answer."""

    category: str
    id: str
    turns: tuple[str, ...]

    def messages(self, answers: Sequence[str]) -> list[dict[str, str]]:
        """The conversation up to the turn that follows these answers."""
        turns = zip_longest(self.turns[: len(answers) + 1], answers)
        spoken = chain.from_iterable((("user", t), ("assistant", a)) for t, a in turns)
        return [{"role": role, "content": text} for role, text in spoken if text is not None]


EXAMPLES = {
    "code": [Question("code", "example", EXAMPLE_PROMPTS[1:2])],
    "math": [Question("math", "example", EXAMPLE_PROMPTS[2:3])],
    "chat": [Question("chat", "example", (EXAMPLE_PROMPTS[0], "Say it shorter."))],
    "news": [Question("news", "example", (NEWS,))],
}


def read_questions(
    limit: int, categories: Sequence[str], folder: Path = FOLDER
) -> dict[str, list[Question]]:
    """The first `limit` questions of each category from the files of `bench.prompts`.

    Raises ValueError for a category that is none of `SETS`, and if a file is missing.
    """
    for each in categories:
        require("categories", f"some of {', '.join(SETS)}", each, each in SETS)
    return {
        category: _read(folder / f"{SETS[category]}.jsonl", limit, category)
        for category in categories
    }


def by_turns(questions: Mapping[str, Sequence[Question]]) -> Iterator[Question]:
    """One question of each category, then the second of each, and so on."""
    return filter(None, chain.from_iterable(zip_longest(*questions.values())))


def _read(path: Path, limit: int, category: str) -> list[Question]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a prompt file; make them with: make prompts")
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines()[:limit])
    return [
        Question(category, record["id"], tuple(record.get("turns") or [record["prompt"]]))
        for record in records
    ]
