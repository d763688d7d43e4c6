"""The process that calls ops. It writes each case down before it calls, for who finds it dead."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import itertools
import json
import mmap
import os
import random
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket as OpPacket
from torch.utils._pytree import tree_leaves, tree_map

from specbranch import _C
from tests.fuzz.arguments import changed
from tests.fuzz.guarded import Arena
from tests.ops.calls import Arguments

Case = tuple[str, tuple[int, ...]]

OPS = [name for name in dir(_C) if isinstance(getattr(torch.ops.specbranch, name, None), OpPacket)]
REFUSED = re.compile(r"[\w.]+: .+: expected .+, got .*", re.DOTALL)
NO_MEMORY = re.compile("no memory for a result|bad_alloc")
MEMORY = 1 << 30
"""Bytes that calls may take beside what is there."""

_arenas = [Arena() for _ in range(32)]


def guarded(arguments: Arguments, rng: random.Random) -> Arguments:
    """Copies between guards; a tensor that is given twice stays one."""
    free, placed = iter(_arenas), dict[int, Tensor]()

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        arena = next(free, None)
        if id(value) not in placed:
            at_end = rng.random() < 0.8
            placed[id(value)] = value.clone() if arena is None else arena.place(value, at_end)
        return placed[id(value)]

    return tree_map(place, arguments)


def plain(arguments: Arguments) -> Arguments:
    return tree_map(
        lambda v: v.clone(memory_format=torch.contiguous_format) if isinstance(v, Tensor) else v,
        arguments,
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def _outcome(name: str, arguments: Arguments) -> tuple[str, bool]:
    """What came of a call, in words, and whether it is right."""
    try:
        getattr(_C, name)(**arguments)
    except ValueError as error:
        return f"ValueError: {error}", REFUSED.fullmatch(str(error)) is not None
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return text, NO_MEMORY.search(text) is not None
    return "", True


def run(case: Case) -> tuple[str, str]:
    """What came of a case, and its fault, if it has one: another error than a refusal, or results
    that depend on where tensors lie."""
    name, seeds = case
    given = changed(name, seeds)
    once = guarded(given, random.Random(0))
    outcome, is_right = _outcome(name, once)
    if not is_right:
        return outcome, outcome
    tensors = [v for v in tree_leaves(given) if isinstance(v, Tensor)]
    writes = not getattr(torch.ops.specbranch, name).default._schema.returns
    if outcome or not writes or len(set(map(id, tensors))) < len(tensors):
        return outcome, ""
    again = plain(given)
    outcome, _ = _outcome(name, again)
    if outcome:
        return outcome, f"contiguous arguments are refused: {outcome}"
    for (key, a), b in zip(once.items(), again.values(), strict=True):
        pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
        if key != "workspace" and not all(_same(x, y) for x, y in pairs if isinstance(x, Tensor)):
            return "", f"{key} depends on where tensors lie"
    return "", ""


class News:
    """Whether a case did something new: passed an edge of the code, where that was compiled to
    count them (`make fuzz`), or else had an outcome in new words."""

    def __init__(self, library: str | None) -> None:
        self.seen = set[tuple[str, str]]()
        self.edges = None
        if library:
            array = (ctypes.c_uint8 * 65536).in_dll(ctypes.CDLL(library), "specbranch_edges")
            self.edges = torch.frombuffer(array, dtype=torch.uint8)
            self.passed = torch.zeros(65536, dtype=torch.uint8)

    def is_new(self, name: str, outcome: str) -> bool:
        words = (name, re.sub(r"-?\d+|inf|nan", "#", outcome)[:200])
        is_new = words not in self.seen
        self.seen.add(words)
        if self.edges is not None:
            before = int(self.passed.count_nonzero())
            self.passed |= self.edges
            is_new = is_new or int(self.passed.count_nonzero()) > before
        return is_new


def cases(rng: random.Random, kept: dict[str, list[tuple[int, ...]]]) -> Iterator[Case]:
    """Ever new ones: changes of what was kept."""
    for name in itertools.cycle(OPS):
        seeds = rng.choice(kept[name]) if rng.random() < 0.7 else ()
        if seeds and rng.random() < 0.2:
            seeds = tuple(s for i, s in enumerate(seeds) if i != rng.randrange(len(seeds)))
        more = tuple(rng.getrandbits(30) for _ in range(rng.choice([1, 1, 2, 3])))
        yield name, (seeds + more)[-10:]


def main(path: str, seed: str, count: str) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    rng, news = random.Random(int(seed)), News(os.environ.get("FUZZ_EDGES"))
    kept: dict[str, list[tuple[int, ...]]] = {name: [()] for name in OPS}
    for name in OPS:
        assert run((name, ())) == ("", ""), f"the valid call of {name} fails"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 1024) as notes:
        for number, case in enumerate(itertools.islice(cases(rng, kept), int(count)), 1):
            line = json.dumps([number, case]).encode()
            notes[: len(line) + 1] = line + b"\0"
            outcome, fault = run(case)
            is_new = news.is_new(case[0], outcome)
            if fault and is_new:
                print(json.dumps([case, fault]), flush=True)
            elif is_new:
                kept[case[0]].append(case[1])
    kinds = sum(map(len, kept.values()))
    edges = "" if news.edges is None else f", {int(news.passed.count_nonzero())} edges"
    print(f"{kinds} kept{edges}", file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
