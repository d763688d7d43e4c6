"""Passages of the installed packages' documentation, as prompts to train drafts on."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

WORDS = (35, 180)  # of a passage: 50 to 250 tokens
MODULES = 40  # of a package, at most, whose docstrings are read
ASKED = (
    "Summarize the following text in a few sentences.",
    "Explain this to a beginner.",
    "Rewrite this text in simpler words.",
    "List the main points of this text.",
    "What is this about, and who would need it?",
    "Write a short example that shows what this text describes.",
)
# Prose begins like a sentence and ends like one.
_PROSE = re.compile(r"[A-Z][a-z]* [^|<>{}\\]*[.!?:]")
_MARKUP = re.compile(r"^ {4}|^\t|^\.\. |https?://|::$|^\s*[-=~^*#`>|]{3,}", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_EMPHASIS = re.compile(r":[a-z:]+:(?=`)|\*\*|``|`_?|(?<!\w)_|_(?!\w)")
_LINK = re.compile(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])")


def docs_records() -> Iterator[dict[str, Any]]:
    """Prompts from all packages in order of their names; none has text that one before has."""
    asked = cycle(ASKED)
    seen: set[str] = set()
    for name, distribution in _packages():
        texts = chain(passages(_description(distribution)), _of_docstrings(distribution))
        for number, passage in enumerate(texts):
            if passage not in seen:
                seen.add(passage)
                prompt = f"{next(asked)}\n\n{passage}"
                yield {"id": f"docs-{name}-{number}", "category": "docs", "prompt": prompt}


def _packages() -> list[tuple[str, Distribution]]:
    """The installed ones by name, but for our own."""
    found = {each.metadata["Name"].lower(): each for each in distributions()}
    return sorted((name, each) for name, each in found.items() if name != "specbranch")


def _description(distribution: Distribution) -> str:
    metadata = distribution.metadata
    return str(metadata.get("Description") or metadata.get_payload() or "")


def _of_docstrings(distribution: Distribution) -> Iterator[str]:
    """The first passage of each of the package's modules, up to so many."""
    modules = sorted(
        Path(str(each.locate()))
        for each in distribution.files or ()
        if each.suffix == ".py" and not {"test", "tests"} & set(each.parts)
    )
    firsts = (next(_module_passages(path), None) for path in modules if path.is_file())
    return islice((passage for passage in firsts if passage), MODULES)


def _module_passages(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, or a test of what Python refuses
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from passages(ast.get_docstring(node) or "")


def passages(text: str) -> Iterator[str]:
    """Runs of paragraphs of clean English prose, of as many words as `WORDS` allows."""
    run: list[str] = []
    for paragraph in [*_paragraphs(text), ""]:
        n = len(paragraph.split())
        if run and (not n or _words(run) + n > WORDS[1]):
            if _words(run) >= WORDS[0]:
                yield "\n\n".join(run)
            run = []
        if 0 < n <= WORDS[1]:
            run.append(paragraph)


def _words(paragraphs: Iterable[str]) -> int:
    return sum(len(paragraph.split()) for paragraph in paragraphs)


def _paragraphs(text: str) -> Iterator[str]:
    """Prose with its line breaks and marks taken out; an empty string for anything else."""
    for block in re.split(r"\n\s*\n", _FENCED.sub("\n\n```\n\n", text.replace("\r", ""))):
        plain = _LINK.sub(r"\1", block)
        if _MARKUP.search(plain):
            yield ""
            continue
        line = " ".join(_EMPHASIS.sub("", plain).split())
        ascii_letters = sum(each.isascii() and (each.isalpha() or each == " ") for each in line)
        yield line if _PROSE.fullmatch(line) and ascii_letters > 0.9 * len(line) else ""
