"""Which parts may know which others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(folder: str, forbidden: str, but: tuple[str, ...]) -> list[str]:
    """The files below a folder that import a package."""
    files = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / folder).rglob("*.py")}
    assert files
    return [
        name
        for name, path in sorted(files.items())
        if not name.startswith(but)
        and any(f"{module}.".startswith(f"{forbidden}.") for module in imported(path))
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden", "but"),
    [
        ("bench", "specbranch.cli", ()),
        ("specbranch", "bench", ()),
        ("specbranch", "tests", ()),
        ("bench", "tests", ()),
        ("specbranch", "specbranch.cli", ("specbranch/cli/", "specbranch/__main__.py")),
        ("specbranch", "specbranch.adapters", ("specbranch/adapters/", "specbranch/__init__.py")),
        ("specbranch", "specbranch.serving", ("specbranch/serving/", "specbranch/cli/serve.py")),
        ("specbranch", "vllm", ()),
        ("specbranch", "sglang", ()),
        ("specbranch", "fastapi", ("specbranch/serving/",)),
        ("specbranch", "xgrammar", ("specbranch/grammar.py",)),
        ("specbranch/drafting", "specbranch.engine", ()),
        ("specbranch/drafting", "specbranch.loop", ()),
        ("specbranch/adapters", "specbranch.engine", ("specbranch/adapters/transformers.py",)),
    ],
)
def test_nothing_knows_what_is_above_it(folder: str, forbidden: str, but: tuple[str, ...]):
    assert importers(folder, forbidden, but) == []


def test_imports_are_seen_wherever_they_are(tmp_path: Path):
    (tmp_path / "a.py").write_text(
        "def f():\n    from specbranch.cli import app\nimport bench.ops\n"
    )
    assert set(imported(tmp_path / "a.py")) == {"specbranch.cli.app", "bench.ops"}


def test_packages_stand_on_each_other_without_a_circle() -> None:
    """A part is a module or a package right below specbranch; types alone are no dependence."""
    parts: dict[str, set[str]] = {}
    for path in sorted((ROOT / "specbranch").rglob("*.py")):
        part = path.relative_to(ROOT / "specbranch").with_suffix("").parts[0]
        if part != "__init__":
            parts.setdefault(part, set()).update(_parts_needed(path) - {part})
    assert len(list(TopologicalSorter(parts).static_order())) >= len(parts)


def _parts_needed(path: Path) -> set[str]:
    """The parts whose modules a file imports when it is imported itself."""
    return {
        name.split(".")[1]
        for node in ast.parse(path.read_text()).body
        for name in _imported(node)
        if name.startswith("specbranch.") and name.split(".")[1] != "_C"
    }


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom) or node.module is None:
        return []
    if node.module == "specbranch":
        return [f"specbranch.{alias.name}" for alias in node.names]
    return [node.module]


FAMILIES = ["attention", "common", "kv_cache", "sampling", "verify"]


def included_sides(path: Path) -> set[str]:
    """Those of cpu/ and cuda/ from which a file of csrc includes."""
    return set(re.findall(r'^#include "\w+/(cpu|cuda)/', path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_for_one_device_know_nothing_of_the_other(family: str):
    files = [path for path in (ROOT / "csrc" / family).rglob("*.*") if path.suffix != ".md"]
    assert files
    assert [path for path in files if not included_sides(path) <= {path.parent.name}] == []


def test_includes_of_a_side_are_seen(tmp_path: Path):
    (tmp_path / "a.h").write_text('#include "verify/params.h"\n#include "common/cpu/vec.h"\n')
    assert included_sides(tmp_path / "a.h") == {"cpu"}
