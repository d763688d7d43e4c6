"""Lanes run the draft's and the target's work at the same time: on threads, streams, or paper."""

from __future__ import annotations

from specbranch.lanes.base import Lane, LaneError, Lanes, Pending
from specbranch.lanes.cuda import StreamLane, StreamLanes
from specbranch.lanes.mixed import MixedLanes
from specbranch.lanes.threads import ThreadLanes
from specbranch.lanes.virtual import VirtualLanes

__all__ = [
    "Lane",
    "LaneError",
    "Lanes",
    "MixedLanes",
    "Pending",
    "StreamLane",
    "StreamLanes",
    "ThreadLanes",
    "VirtualLanes",
]
