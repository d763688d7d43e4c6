"""The file of all runs: JSON lines, first what they were made under, then one line a run.

A run that is in the file is not made again. A last line that a crash cut short is taken off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from specbranch.files import write_whole

Record = dict[str, Any]


class Key(NamedTuple):
    """What makes a run the one that it is; turn and repeat count from 0."""

    contender: str
    category: str
    id: str
    turn: int
    repeat: int


@dataclass
class RunFile:
    """records: by key, in the order in which they were made."""

    path: Path
    records: dict[Key, Record]

    @classmethod
    def open(cls, path: Path, made_under: Mapping[str, Any]) -> RunFile:
        """Begin a file, or go on with one.

        made_under: the settings and the environment that all runs of a file share.
        Raises ValueError if the file's differ, or for a line that is no JSON object, the last
        excepted.
        """
        made_under = json.loads(json.dumps(made_under))
        if not path.is_file() or not (lines := _whole_lines(path)):
            write_whole(path, json.dumps(made_under) + "\n")
            return cls(path, {})
        _require_same(path, lines[0], made_under)
        return cls(path, {key_of(record): record for record in lines[1:]})

    def add(self, record: Record) -> None:
        """Append one run; on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[key_of(record)] = record


def key_of(record: Mapping[str, Any]) -> Key:
    return Key(**{name: record[name] for name in Key._fields})


def _whole_lines(path: Path) -> list[Record]:
    """The file's objects; what follows the last line end is cut off the file."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    objects = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected a JSON object: {error}") from None
    return objects


def _require_same(path: Path, before: Record, now: Mapping[str, Any]) -> None:
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        changes = "; ".join(f"{n}: {before.get(n)!r} there, {now.get(n)!r} now" for n in differing)
        raise ValueError(f"{path} was made under other conditions ({changes}): use another --out")
