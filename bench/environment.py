"""What stands beside every number: the machine, and what ran on it."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from typing import Any

import torch

from bench import gpu
from specbranch.info import build_info, cpu_model


def environment(device: torch.device) -> dict[str, Any]:
    """The processor, the GPU if it is one that measures, and the libraries."""
    found = {
        "device": device.type,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "platform": platform.platform(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "build": build_info(),
    }
    return found | (gpu.environment() if device.type == "cuda" else {})
