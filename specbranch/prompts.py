"""Prompt files: JSON lines with `prompt` or `turns`, and perhaps an `id` and a `category`."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbranch.texts import valid_unicode

EXAMPLE_PROMPTS = (
    "Explain in a few sentences how a processor predicts branches, and why that pays.",
    "Write a Python function that returns the n-th Fibonacci number, and say how fast it is.",
    "Tom has 3 boxes of 12 pencils and gives away 7 pencils. How many are left? Think in steps.",
    "Summarise the story of Little Red Riding Hood for a child of five.",
)

SHOWN = 80  # bytes of a line that is refused


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One line of a prompt file."""

    prompt: str
    category: str | None = None
    id: str | None = None


def read_prompts(path: str | Path, limit: int | None = None) -> list[PromptRecord]:
    """The first `limit` prompts of a file, all by default.

    A line is an object with `prompt`, a string, or `turns`, a list of strings of which the first
    is the prompt (later turns answer a model's replies), and optionally `category`, a string, and
    `id`. Blank lines and a byte order mark are skipped; a prompt that is no valid Unicode becomes
    it, see `valid_unicode`. Raises ValueError with the line's number for any other line, and for a
    file without prompts; OSError if the file cannot be read.
    """
    records: list[PromptRecord] = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if len(records) == limit:
                break
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if line.strip():
                records.append(_parse(line.strip(), f"{path}, line {number}"))
    if not records:
        raise ValueError(f"{path}: expected at least one prompt, got none")
    return records


def _parse(line: bytes, where: str) -> PromptRecord:
    shown = repr(line[:SHOWN].decode(errors="replace"))
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected a JSON object, got {shown}: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: expected a JSON object, got {shown}")
    category = fields.get("category")
    if category is not None and not isinstance(category, str):
        raise ValueError(f"{where}: category: expected a string, got {category!r}")
    id = str(fields["id"]) if "id" in fields else None
    return PromptRecord(_prompt_of(fields, where), category, id)


def _prompt_of(fields: dict[str, Any], where: str) -> str:
    if "prompt" in fields:
        name, prompt = "prompt", fields["prompt"]
    elif "turns" in fields:
        turns = fields["turns"]
        if not isinstance(turns, list) or not turns:
            raise ValueError(f"{where}: turns: expected a list of strings, got {turns!r}")
        name, prompt = "turns", turns[0]
    else:
        raise ValueError(
            f"{where}: expected `prompt` or `turns`, got {', '.join(fields) or 'no key'}"
        )
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f"{where}: {name}: expected a non-empty string, got {prompt!r}")
    return valid_unicode(prompt)
