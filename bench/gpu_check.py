"""Builds, tests and measures on a CUDA machine: `bench/gpu_check.sh --out FILE.json`.

Needs no network and no weights. Each part runs in a process of its own: what fails in one, or lacks
a package, is recorded and stops no other.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench import gpu
from bench.commit import commit
from bench.goals import VERDICTS, op_goals
from specbranch.files import write_whole

ROOT = Path(__file__).parents[1]
SECONDS = 590
"""For everything together."""
NO_GPU = 3
"""The exit code that says so."""

SANITIZED = "tests/cuda/test_sanitizer.py"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_junit(path: Path) -> dict[str, Any]:
    """How many tests passed, were skipped and failed, and what the failed ones said."""
    cases = list(ET.parse(path).iter("testcase"))
    if not cases:
        raise ValueError("no test was found")
    bad = [(case, found) for case in cases for found in case if found.tag in ("failure", "error")]
    skipped = [found.get("message", "") for case in cases for found in case.iter("skipped")]
    if len(skipped) == len(cases):
        raise ValueError(f"all tests were skipped: {', '.join(sorted(set(skipped)))}")
    return {
        "passed": len(cases) - len(bad) - len(skipped),
        "failed": len(bad),
        "skipped": sorted(set(skipped)),
        "failures": {
            f"{case.get('classname')}::{case.get('name')}": (found.get("message") or "")[:500]
            for case, found in bad
        },
    }


@dataclass(frozen=True, slots=True)
class Part:
    """A process that leaves a file behind. command: for the path of that file."""

    name: str
    seconds: float
    command: Callable[[Path], list[str]]
    read: Callable[[Path], Any] = read_json


OPS = ("-m", "bench.ops", "--goals", "--shape", "Llama-3.1-8B", "--device", "cuda", "--out")


def pytest_command(*what: str) -> Callable[[Path], list[str]]:
    parallel = importlib.util.find_spec("xdist") is not None
    workers = ["-n", str(min(8, os.cpu_count() or 1))] if parallel else []
    return lambda out: ["-m", "pytest", *what, *workers, f"--junitxml={out}"]


PARTS = (
    Part("build", 150, lambda out: ["setup.py", "-q", "build_ext", "--inplace"], lambda out: None),
    Part("ops", 180, lambda out: [*OPS, str(out)]),
    Part("decoding", 120, lambda out: ["-m", "bench.synthetic", "--out", str(out)]),
    Part("tests", 240, pytest_command("tests/cuda", f"--ignore={SANITIZED}"), read_junit),
    Part("sanitizer", 240, pytest_command(SANITIZED), read_junit),
)


def run_part(part: Part, seconds: float) -> dict[str, Any]:
    """Run one part for `seconds` at most; what came of it, whatever that is."""
    started = time.perf_counter()
    record: dict[str, Any] = {"name": part.name, "ok": False, "error": None, "result": None}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        try:
            code, output = run_for(seconds, [sys.executable, *part.command(out)])
            record["ok"] = code == 0
            if not record["ok"]:
                record["error"] = output[-3000:]
        except subprocess.TimeoutExpired:
            record["error"] = f"stopped after {seconds:.0f} s"
        if out.exists() or record["ok"]:
            try:
                record["result"] = part.read(out)
            except (OSError, ValueError, ET.ParseError) as error:
                record.update(ok=False, error=f"no result: {error}")
    record["seconds"] = round(time.perf_counter() - started, 1)
    return record


def run_for(seconds: float, command: Sequence[str]) -> tuple[int, str]:
    """The exit code and the output of a command that builds for this GPU, if it builds.

    Raises TimeoutExpired if it takes longer; whatever it has started is stopped then.
    """
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **gpu.build_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output


def check(parts: Sequence[Part], seconds: float = SECONDS) -> dict[str, Any]:
    """Run the parts one after the other; all that is known afterwards."""
    deadline = time.monotonic() + seconds
    records = []
    for part in parts:
        print(f"{part.name} ...", flush=True)
        left = max(deadline - time.monotonic(), 1)
        records.append(run_part(part, min(part.seconds, left)))
    results = {record["name"]: record.get("result") for record in records}
    ops = results.get("ops") or {}
    return {
        "missing_peers": sorted(ops.get("absent", [])),
        "parts": records,
        "goals": list(map(asdict, op_goals("cuda", ops.get("rows", [])))),
    }


def lines(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The table: what, how, and the verdict."""
    rows = [
        (
            record["name"],
            f"{record.get('seconds', 0):.0f} s",
            "ran" if record["ok"] else f"FAILED: {record['error'].strip()[-300:]}",
        )
        for record in found["parts"]
    ]
    for goal in found["goals"]:
        measured = "-" if goal["met"] is None else f"{goal['measured']:.2f}"
        rows.append((goal["name"], f"{measured} (wanted {goal['wanted']})", VERDICTS[goal["met"]]))
    by_name = {record["name"]: record.get("result") or {} for record in found["parts"]}
    for row in by_name.get("decoding", {}).get("rows", []):
        rows.append(
            (
                f"decoding, SYNTHETIC pair, draft {row['draft']}: {row['method']}",
                f"{row['tokens_per_s']:.0f} tok/s, {row['speedup']:.2f}x plain decoding",
                _text(row["first_divergence"]),
            )
        )
    rows += [(peer, "peer", "missing") for peer in found["missing_peers"]]
    return rows


def _text(parted: dict[str, Any] | None) -> str:
    """Where a text leaves plain decoding's, and how near a tie that was."""
    if parted is None:
        return "identical to plain decoding"
    return (
        f"parts at token {parted['position']}, where plain decoding's margin was "
        f"{parted['ar_margin']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu_check.json")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS])
    options = parser.parse_args(arguments)
    parts = [part for part in PARTS if options.parts is None or part.name in options.parts]
    if not torch.cuda.is_available():
        print(f"gpu_check: torch {torch.__version__} finds no GPU: nothing was built or measured")
        return NO_GPU
    name = torch.cuda.get_device_name()
    found = {"gpu": name, "torch": torch.__version__, "commit": commit(), **check(parts)}
    write_whole(options.out, json.dumps(found, indent=1) + "\n")
    print(f"SpecBranch on {name}", *map(" | ".join, lines(found)), sep="\n")
    print(f"written to {options.out}")
    return 0 if all(record["ok"] for record in found["parts"]) else 1


if __name__ == "__main__":
    sys.exit(main())
