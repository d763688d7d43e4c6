"""What becomes of the draft's next block, at every place of a text.

The draft's chain of gamma guesses from a place agrees with the text up to its first wrong guess,
and for as long as it agrees, its context *is* the text. So the guesses that one teacher-forced pass
makes along the text tell for all places at once how long the chains hold: the accepted length is
the run of agreements that begins there. Only what a chain says after its first wrong guess, which a
rule that looks at the draft's confidence sees too, needs more: the chains of all places go on
together, as branches of one block, and those that made the same guess share it.
"""

from __future__ import annotations

from typing import NamedTuple

from specbranch.hrad.features import Certainty
from specbranch.replay import DraftLaws, Place, Recording


class NextBlocks(NamedTuple):
    """The draft's block after each of n tokens of a text."""

    accepted: list[int]  # [n] guesses that are right before the first wrong one, 0 to gamma
    laws: list[tuple[Certainty, ...]]  # [n, gamma] those that the draft made its guesses from


def next_blocks(laws: DraftLaws, recording: Recording, gamma: int) -> NextBlocks:
    """The blocks of gamma guesses after all tokens of the text but the last gamma, before whose
    blocks are checked it ends."""
    roots = range(len(recording.text) - gamma)
    laws.compute_text()
    places = [Place(root + 1) for root in roots]
    steps = []
    for _ in range(gamma):
        found = laws.laws(places)
        steps.append([(law.max_prob, law.entropy) for law in found])
        places = [
            _after(place, law.ids[0], recording) for place, law in zip(places, found, strict=True)
        ]
    accepted = [place.on_text - root - 1 for root, place in zip(roots, places, strict=True)]
    return NextBlocks(accepted, list(zip(*steps, strict=True)))


def _after(place: Place, guess: int, recording: Recording) -> Place:
    if not place.beyond and guess == recording.text[place.on_text]:
        return Place(place.on_text + 1)
    return Place(place.on_text, (*place.beyond, guess))
