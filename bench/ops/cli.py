"""`python -m bench.ops`: measures the chosen cases and writes what was found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.commit import commit
from bench.goals import op_goals
from bench.ops import report
from bench.ops.case import Case
from bench.ops.run import Bench, absent_from, measure, release
from bench.ops.selection import label, select
from specbranch.files import write_whole
from specbranch.info import environment

DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
SECONDS = {"smoke": 0.05, "goals": 1.0, "default": 1.0, "all": 1.0}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m bench.ops", description=__doc__)
    found.set_defaults(size="default")
    sizes = found.add_mutually_exclusive_group()
    for size, words in (
        ("smoke", "every op once, small: seconds"),
        ("goals", "only the shapes that goals are set for"),
        ("all", "every combination of model, context, branches, tree, batch: hours"),
    ):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=words)
    found.add_argument("--op", default="", metavar="REGEX", help="ops to measure")
    found.add_argument("--shape", default="", metavar="REGEX", help="model, shape and dtype")
    found.add_argument("--device", choices=DTYPES, help="default: cuda where there is one")
    found.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
    found.add_argument("--seconds", type=float, help="for each case, and clock on a GPU")
    found.add_argument("--threads", type=int, help="of torch, on a CPU")
    found.add_argument("--out", type=Path, metavar="FILE.json")
    found.add_argument("--markdown", type=Path, metavar="FILE.md")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where one of our ops failed. Exits with 2 for bad arguments."""
    options = parser().parse_args(arguments)
    try:
        record = run(options)
    except ValueError as error:
        parser().error(str(error))
    page = report.markdown(record)
    print(page)
    if options.out:
        write_whole(options.out, json.dumps(record, indent=1) + "\n")
    if options.markdown:
        write_whole(options.markdown, page)
    return 1 if record["failed"] else 0


def chosen(options: argparse.Namespace) -> tuple[torch.device, list[Case]]:
    """Where to measure, and what. Raises ValueError where that is nowhere or nothing."""
    here = "cuda" if torch.cuda.is_available() else "cpu"
    name = options.device or here
    if name == "cuda" != here:
        raise ValueError(
            f"--device: expected one that is here, got cuda; torch {torch.__version__} finds no GPU"
        )
    dtype = getattr(torch, options.dtype or DTYPES[name])
    cases = select(options.size, dtype, options.op, options.shape)
    return torch.device(name), [case for case in cases if name in case.devices]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The record of a new run."""
    device, cases = chosen(options)
    absent = absent_from(cases, device)
    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench.on(device, options.seconds or SECONDS[options.size])
    return measured(cases, bench, absent, vars(options))


def measured(
    cases: Sequence[Case], bench: Bench, absent: dict[str, str], flags: dict[str, Any]
) -> dict[str, Any]:
    """The record of a run. Cases that do not fit are skipped, those that fail are listed.

    absent: ways that cannot take part, and why.
    """
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for index, case in enumerate(cases, 1):
        name = f"{case.op}: {label(case)}"
        print(f"[{index}/{len(cases)}] {name}", file=sys.stderr, flush=True)
        try:
            with torch.inference_mode():
                rows.append(measure(case, bench, absent))
        except (MemoryError, torch.OutOfMemoryError) as error:
            skipped[name] = str(error)
            print(f"skipped {name}: {error}", flush=True)
        except Exception as error:  # one op's failure stops no other
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"FAILED {name}: {failed[name]}", flush=True)
        release(bench.device)
    return {
        "environment": environment(bench.device)
        | {
            "commit": commit(),
            "threads": torch.get_num_threads(),
            "load_average": os.getloadavg()[0],
        },
        "flags": {key: str(value) for key, value in flags.items() if value is not None},
        "clocks": list(bench.clocks),
        "seconds": bench.seconds,
        "rows": rows,
        "goals": list(map(asdict, op_goals(bench.device.type, rows))),
        "absent": absent,
        "skipped": skipped,
        "failed": failed,
    }
