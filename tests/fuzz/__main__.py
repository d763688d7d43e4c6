"""Fuzzes every op on the CPU: `python -m tests.fuzz --cases 1000000`; `--replay` repeats a case.

Whatever an op is given, it gives a result or a ValueError; it does not crash, hang or touch memory
beyond its tensors. Cases run in a child process; `FUZZ_EDGES` names the library that counts edges.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds without a new case after which an op hangs."""


def progress(notes: Path) -> tuple[int, Any]:
    line = notes.read_bytes().split(b"\0", 1)[0]
    return tuple(json.loads(line)) if line else (0, None)


def watch(child: subprocess.Popen[str], notes: Path, deadline: float) -> str:
    """Until the child ends: how it failed, or nothing."""
    last, since = -1, time.monotonic()
    while child.poll() is None:
        time.sleep(0.05)
        number, now = progress(notes)[0], time.monotonic()
        if number != last:
            last, since = number, now
        if now > deadline or now - since > PATIENCE * (1 if number else 10):
            child.kill()
            child.wait()
            return "hangs" if now <= deadline else ""
    return "" if child.returncode == 0 else f"ends with {child.returncode}"


def fuzz(cases: int, seconds: float, seed: int) -> Iterator[Any]:
    """Faults as (case, words), at last the number of cases that ran."""
    ran, deadline = 0, time.monotonic() + seconds
    while ran < cases and time.monotonic() < deadline:
        with tempfile.TemporaryDirectory() as folder:
            notes, words = Path(folder) / "notes", Path(folder) / "words"
            notes.write_bytes(bytes(1024))
            command = [sys.executable, "-m", "tests.fuzz.child", str(notes), str(seed + ran)]
            with open(words, "w") as out:
                child = subprocess.Popen([*command, str(cases - ran)], stdout=out, text=True)
                failure = watch(child, notes, deadline)
            number, case = progress(notes)
            yield from map(json.loads, words.read_text().splitlines())
            if failure and case is None:
                raise RuntimeError(f"the process of the calls {failure}")
            if failure:
                yield case, failure
            if not number:
                break
            ran += number
    yield ran


def replay(name: str, *seeds: int) -> None:
    from tests.fuzz.arguments import changed
    from tests.fuzz.child import run

    for key, value in changed(name, seeds).items():
        layout = getattr(value, "stride", tuple)()
        print(
            f"{key} = {value}  {getattr(value, 'dtype', '')} {getattr(value, 'shape', '')} {layout}"
        )
    sys.stdout.flush()
    print(run((name, seeds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10**6)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", nargs="+", metavar=("OP", "SEED"))
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay[0], *map(int, options.replay[1:]))
    faults = []
    for found in fuzz(options.cases, options.seconds, options.seed):
        if isinstance(found, int):
            print(f"{found} cases, {len(faults)} faults")
            sys.exit(bool(faults))
        (name, seeds), words = found
        faults.append(found)
        numbers = " ".join(map(str, seeds))
        print(f"{words}\n    python -m tests.fuzz --replay {name} {numbers}", flush=True)


if __name__ == "__main__":
    main()
