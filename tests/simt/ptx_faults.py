"""Faults to plant in the PTX of a kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.simt.device import Device, KernelError

R = r"(%\w+)"
MMA = rf"(mma\.sync\S+ {{[^}}]*}}, ){{{R}, {R}, {R}, {R}}}, {{{R}, {R}}}"
SHUFFLE = r"(shfl\.sync\.bfly\.b32\s+%\w+(?:\|%\w+)?, %\w+, [^,]+), ([^,]+), ([^;]+);"
COPY = r"(cp\.async\.cg\S+ \[[^]]*\], \[[^]]*\], 16), %\w+;"


@dataclass(frozen=True)
class Fault:
    """What a pattern finds becomes something else: everywhere, or in one place."""

    name: str
    pattern: str
    replacement: str
    place: int | None = None

    def plant(self, code: str) -> str:
        found = list(re.finditer(self.pattern, code))
        if self.place is not None:
            found = [found[self.place]]
        assert found, f"{self.name}: nothing to change"
        for match in reversed(found):
            code = code[: match.start()] + match.expand(self.replacement) + code[match.end() :]
        return code


ATTENTION = [
    Fault("mma: b0, b1 swapped", MMA, r"\1{\2, \3, \4, \5}, {\7, \6}"),
    Fault("mma: a1, a2 swapped", MMA, r"\1{\2, \4, \3, \5}, {\6, \7}"),
    Fault(
        "mma: nothing to add to",
        r"(mma\.sync[^;]*, ){[^}]*};",
        r"\1{0f00000000, 0f00000000, "
        "0f00000000, 0f00000000};",
    ),
    Fault("ldmatrix without .trans", r"\.x4\.trans\.", ".x4."),
    Fault("ldmatrix with .trans", r"\.x4\.shared", ".x4.trans.shared"),
    Fault(
        "ldmatrix: registers swapped",
        rf"(ldmatrix\S+ ){{{R}, {R}, {R}, {R}}}",
        r"\1{\2, \4, \3, \5}",
    ),
    Fault("a wait too short", r"wait_group 5", "wait_group 6"),
    Fault("no last wait", r"cp\.async\.wait_group 0;", ""),
    Fault("a commit missing", r"cp\.async\.commit_group;", "", 2),
    Fault("copies without zeros", COPY, r"\1, 16;"),
    Fault("copies of 8 bytes", COPY, r"\1, 8;"),
    Fault("halves swapped", r"(cvt\.rn\.f16x2\.f32 %\w+, )" + f"{R}, {R}", r"\1\3, \2"),
    Fault(
        "2^-x",
        r"ex2\.approx\.ftz\.f32 (%\w+), (%\w+);",
        r"neg.f32 \1, \2; ex2.approx.ftz.f32 \1, \1;",
    ),
]
TICKETS = [
    Fault("a relaxed ticket", r"atom\.add\.acq_rel\.gpu", "atom.add.relaxed.gpu"),
    Fault("a ticket that does not release", r"atom\.add\.acq_rel\.gpu", "atom.add.acquire.gpu"),
    Fault("a ticket that does not acquire", r"atom\.add\.acq_rel\.gpu", "atom.add.release.gpu"),
]
SHUFFLES = [
    Fault("shuffles of pairs", SHUFFLE, r"\1, 7711, \3;"),
    Fault("shuffles of half a warp", SHUFFLE, r"\1, \2, 65535;"),
]
LOGITS = [
    Fault(
        "2^-x",
        r"ex2\.approx\.ftz\.f32 (%\w+), (%\w+);",
        r"neg.f32 \1, \2; ex2.approx.ftz.f32 \1, \1;",
    ),
    Fault(
        "a factor of products wrong",
        r"mul\.wide\.u32 (%\w+), (%\w+), -?\d+;",
        r"mul.wide.u32 \1, \2, 12345;",
    ),
    Fault(
        "lanes of a vote forgotten", r"(vote\.sync\.ballot\.b32 %\w+, %\w+), [^;]+;", r"\1, 65535;"
    ),
    Fault("counts overwritten", r"atom\.shared\.add\.u32", "atom.shared.exch.b32"),
    Fault(
        "logits half read",
        r"ld\.global(?:\.nc)?\.v4\.u32 {(%\w+), (%\w+), (%\w+), (%\w+)}",
        r"ld.global.v4.u32 {\2, \1, \3, \4}",
    ),
    Fault(
        "fma becomes add",
        r"fma\.rn\.f32 (%\w+), (%\w+), ([^,]+), ([^;]+);",
        r"add.rn.f32 \1, \2, \4;",
    ),
]


def barriers(code: str) -> list[Fault]:
    """Each bar.sync, missing."""
    count = len(re.findall(r"bar\.sync\s", code))
    return [Fault(f"no bar.sync {n}", r"bar\.sync\s+0;", "", n) for n in range(count)]


@dataclass(frozen=True)
class Subject:
    """A kernel, and launches of it, the results of which are compared with those of its own PTX."""

    device: Device
    kernel: str
    launches: list[Callable[[], tuple[torch.Tensor, ...]]]

    def code(self) -> tuple[str, str, str]:
        """What the module has before the kernel, the kernel, and after it."""
        module = self.device.ptx(self.kernel)
        start = re.search(rf"\.entry \w*{self.kernel}", module)
        assert start, self.kernel
        end = re.search(r"\.entry |\n\.file", module[start.end() :])
        last = start.end() + end.start() if end else len(module)
        return module[: start.start()], module[start.start() : last], module[last:]

    def finds(self, fault: Fault) -> str:
        """What is said of the fault, or nothing."""
        before, code, after = self.code()
        for number, launch in enumerate(self.launches):
            expected = launch()
            with self.device.running_ptx(self.kernel, before + fault.plant(code) + after):
                try:
                    results = launch()
                except KernelError as error:
                    return f"launch {number}: {error}"
            for result, wanted in zip(results, expected, strict=True):
                if not torch.equal(bits(result), bits(wanted)):
                    return f"launch {number}: results differ"
        return ""


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.nan_to_num(nan=12345.0) if values.is_floating_point() else values
