"""Forwards of a tiny target are timed, and only those of the contenders that are here."""

from __future__ import annotations

import json
from pathlib import Path

from bench import forwards


def test_every_contender_is_timed_at_every_number_of_rows(folders: tuple[Path, Path], tmp_path):
    out = tmp_path / "forwards.json"
    forwards.main(
        ["--target", str(folders[0]), "--threads", "1", "--turns", "1", "--out", str(out)]
    )
    found = json.loads(out.read_text())["seconds"]["1"]
    assert list(found) == [*map(str, forwards.ROWS), forwards.READ]
    for times in found.values():
        assert list(times) == [*forwards.OURS, "transformers fp32"]
        assert all(0 < low <= middle <= high for low, middle, high in times.values())
