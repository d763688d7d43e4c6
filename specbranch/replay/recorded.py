"""What a replay knows of a request before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from specbranch.policies.base import Outlook
from specbranch.replay.laws import LawSource
from specbranch.replay.recording import Recording


class Recorded(NamedTuple):
    """laws: the draft's, around the recorded text. outlooks: what H-RAD expects below each token of
    the text by how many laws of the block there are drafted, the last for as many or more; None
    without H-RAD, and nothing is expected where it ends."""

    recording: Recording
    laws: LawSource
    outlooks: Sequence[Sequence[Outlook]] | None = None
