"""The machine and the versions behind a figure."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from typing import Any

import torch
import transformers

from specbranch import build_info
from specbranch.cli.session import Session
from specbranch.info import cpu_model
from specbranch.lanes import Lanes


def environment(session: Session, lanes: Lanes) -> dict[str, Any]:
    """What a run's JSON says under `env`."""
    pair = session.pair
    return {
        **build_info(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": {
            lane.name: getattr(lane, "threads", None) for lane in (lanes.draft, lanes.target)
        },
        "device": str(pair.device),
        "dtype": str(pair.dtype).removeprefix("torch."),
        "target": pair.target_name,
        "draft": pair.draft_name,
        "clock": session.lanes.clock,
        "clock_unit": session.costs.unit if session.costs else "s",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
