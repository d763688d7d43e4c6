"""What a replay knows of a request before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from specbranch.policies.base import Outlook
from specbranch.replay.laws import LawSource
from specbranch.replay.recording import Recording


class Recorded(NamedTuple):
    """laws: the draft's, around the recorded text. outlooks: what H-RAD expects below each token of
    the text, None without H-RAD."""

    recording: Recording
    laws: LawSource
    outlooks: Sequence[Outlook] | None = None
