"""Schedules replayed: any policy on a text that is already known, without a target forward.

Under greedy decoding and the gumbel coupling the target's decision at a position is a function of
the text before it alone, and the draft's law at a node is one of the token path alone. So one run
of plain decoding fixes what every policy, cost model and parameter will see: the replay walks the
tree by the known text, and asks the draft for each law once in all. The round loop, the policies,
the virtual lanes and the figures are the engine's own.
"""

from __future__ import annotations

from specbranch.replay.draft_laws import DraftLaws, DraftModel
from specbranch.replay.laws import Law, LawSource, LawStore, Place
from specbranch.replay.recorded import Recorded
from specbranch.replay.recording import Recording, record
from specbranch.replay.run import Replay, Replayer
from specbranch.replay.synthetic import SyntheticLaws, rank_rates, synthetic_recording

__all__ = [
    "DraftLaws",
    "DraftModel",
    "Law",
    "LawSource",
    "LawStore",
    "Place",
    "Recorded",
    "Recording",
    "Replay",
    "Replayer",
    "SyntheticLaws",
    "rank_rates",
    "record",
    "synthetic_recording",
]
