"""What this installation is made of, and the machine it runs on."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import torch

from specbranch import _C, __version__
from specbranch.lanes.threads import permitted_cores


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


def environment(device: torch.device) -> dict[str, Any]:
    """What stands beside every figure: the build, the machine and its GPU, if that is `device`."""
    found = {
        **build_info(),
        "transformers": version("transformers"),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(permitted_cores()),
        "device": str(device),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return found | _gpu(device) if device.type == "cuda" else found


def _gpu(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "gpus": torch.cuda.device_count(),
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "arch": f"{properties.major}.{properties.minor}",
    }


def cpu_model() -> str:
    """The processor's name, or its architecture where the system gives no name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.split(":", 1)[1] for line in lines if line.startswith("model name"))
            return next(names).strip()
    except (OSError, StopIteration):
        return platform.machine()
