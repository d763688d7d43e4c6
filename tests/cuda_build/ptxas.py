"""What ptxas said of every kernel when the extension was built: no GPU is needed to know it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OBJECTS = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}/CMakeFiles/specbranch_cuda.dir"


def objects_dir() -> Path:
    """Of the build in place, or of another one that the environment names."""
    return Path(os.environ.get("SPECBRANCH_CUDA_OBJECTS", OBJECTS))


@dataclass(frozen=True)
class Usage:
    """Of one kernel on one architecture: registers of a thread; the rest in bytes."""

    architecture: str
    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


def reports() -> list[Path]:
    """Beside the object files of the sources that there are."""
    return [r for r in sorted(objects_dir().rglob("*.cu.o.ptxas")) if source_of(r)]


def source_of(report: Path) -> Path | None:
    """In the repository, or made by CMake in the folder of the build."""
    name = str(report.relative_to(objects_dir())).removesuffix(".o.ptxas")
    found = [folder / name for folder in (ROOT, objects_dir().parents[1])]
    return next((source for source in found if source.exists()), None)


def usages() -> list[Usage]:
    """All kernels on all architectures."""
    return [u for report in reports() for u in parse(report.read_text())]


NUMBERS = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
}


def parse(report: str) -> list[Usage]:
    """The report names a kernel, then its stack and spills, then its registers and memory."""
    demangled = subprocess.run(
        ["c++filt"], input=report, capture_output=True, text=True, check=True
    ).stdout
    found = []
    for entry in demangled.split("Compiling entry function '")[1:]:
        heading = re.match(r"(.*)' for '(\w+)'", entry)
        assert heading, entry
        matches = {name: re.search(pattern, entry) for name, pattern in NUMBERS.items()}
        numbers = {name: int(match[1]) if match else 0 for name, match in matches.items()}
        found.append(Usage(heading[2], heading[1], **numbers))
    return found
