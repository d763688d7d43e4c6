"""The machine instructions of every kernel, read by cuobjdump."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path

INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
"""An offset, perhaps a predicate, then the opcode."""


def find_cuobjdump() -> str | None:
    """Of the toolkit, or of PyPI: nvidia-cuda-cuobjdump with nvidia-cuda-nvdisasm."""
    installed = Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin")
    folders = [*map(str, installed), f"{os.environ.get('CUDA_HOME', '')}/bin", os.environ["PATH"]]
    path = os.pathsep.join(folders)
    return shutil.which("cuobjdump", path=path) if shutil.which("nvdisasm", path=path) else None


def opcodes(binary: Path, architecture: str) -> dict[str, Counter[str]]:
    """How often each kernel (by its mangled name) has each opcode, as LDG.E.128."""
    cuobjdump = find_cuobjdump()
    assert cuobjdump is not None
    path = os.pathsep.join([str(Path(cuobjdump).parent), os.environ["PATH"]])
    listing = subprocess.run(
        [cuobjdump, "-sass", "-arch", architecture, binary],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    ).stdout
    return parse(listing)


def parse(listing: str) -> dict[str, Counter[str]]:
    kernels: dict[str, Counter[str]] = {}
    for section in listing.split("Function : ")[1:]:
        name, body = section.split("\n", 1)
        kernels[name.strip()] = Counter(INSTRUCTION.findall(body))
    return kernels
