"""What this installation is made of: for bug reports and for `python -m specbranch info`."""

from __future__ import annotations

import platform

import torch

from specbranch import _C, __version__


def build_info() -> dict[str, str]:
    """Versions of SpecBranch, Python, torch and CUDA, and what the binary was built from and for.

    `cuda` and `cuda_archs` are empty for a CPU-only build; `cpu_capabilities` are the compiled
    variants of the CPU kernels and `cpu_capability` the one in use. Creates no CUDA context.
    """
    return {
        "specbranch": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda or "",
        **_C.build_info(),
    }


def cpu_model() -> str:
    """The processor's name, or its architecture where the system gives no name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.split(":", 1)[1] for line in lines if line.startswith("model name"))
            return next(names).strip()
    except (OSError, StopIteration):
        return platform.machine()
