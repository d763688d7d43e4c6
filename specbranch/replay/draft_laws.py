"""Laws from a draft model, each computed once and then remembered."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specbranch import ops
from specbranch.models.runner import ModelRunner
from specbranch.replay.laws import RANKS, Law, LawStore, Place
from specbranch.replay.recording import Recording


class DraftLaws:
    """The draft's laws around one recorded text; computes what `store` lacks.

    The draft's context is the text up to a base, its block the places asked for beyond, so that
    one forward serves all that a step lacks.

    runner: the draft, used by this object alone. store: extended in place.
    vocab_size: of the target; guesses stay below it.
    computed: rows that the draft had to compute.
    """

    def __init__(
        self, runner: ModelRunner, recording: Recording, store: LawStore, vocab_size: int
    ) -> None:
        self._runner = runner
        self._recording = recording
        self._vocab_size = min(vocab_size, runner.vocab_size)
        self._filters = recording.params.filters(runner.max_nodes, runner.device)
        self._tokens = [*recording.prompt, *recording.text]
        self._slots: dict[Place, int] = {}
        self._base = 0
        self.store = store
        self.computed = 0
        runner.reset()
        self._move_base(0)

    def laws(self, places: Sequence[Place]) -> list[Law]:
        missing = [place for place in places if place not in self.store]
        if missing:
            self.compute(missing)
        return [self.store[place] for place in places]

    def compute_text(self) -> None:
        """Compute the law at every place on the text, in as few forwards as the block allows."""
        on_text = map(Place, range(len(self._recording.text)))
        missing = [place for place in on_text if place not in self.store]
        batch = self._runner.max_nodes
        for start in range(0, len(missing), batch):
            self.compute(missing[start : start + batch])

    def compute(self, places: Sequence[Place]) -> None:
        """Compute and store the laws of distinct places, in one forward."""
        first = min(place.on_text for place in places)
        if first < self._base:
            self._move_base(first)
        lacking = self._lacking(places)
        if len(self._slots) + len(lacking) > self._runner.max_nodes:
            self._move_base(first)
            lacking = self._lacking(places)
        parents = []
        for place in lacking:
            parents.append(-1 if place == Place(self._base) else self._slots[_parent(place)])
            self._slots[place] = len(self._slots)
        known = self._runner.vocab_size
        logits = self._runner.forward([self._token(place) % known for place in lacking], parents)
        self._rank(lacking, logits)
        self.computed += len(lacking)

    def _lacking(self, places: Sequence[Place]) -> list[Place]:
        """The places and their ancestors that the block lacks, parents first."""
        lacking: dict[Place, None] = {}
        for place in places:
            path = []
            while place.on_text >= self._base and place not in self._slots and place not in lacking:
                path.append(place)
                if place == Place(self._base):
                    break
                place = _parent(place)
            lacking.update(dict.fromkeys(reversed(path)))
        return list(lacking)

    def _move_base(self, base: int) -> None:
        """Let the block begin with the text's token before position `base`."""
        self._slots.clear()
        self._runner.commit([], 0)
        context_len = len(self._recording.prompt) + base - 1
        # What the cache holds beyond the context is overwritten by what comes next.
        self._runner.context_len = min(self._runner.context_len, context_len)
        self._runner.prefill(self._prefix(self._runner.context_len, context_len))
        self._base = base

    def _prefix(self, start: int, end: int) -> list[int]:
        return [token % self._runner.vocab_size for token in self._tokens[start:end]]

    def _token(self, place: Place) -> int:
        if place.beyond:
            return place.beyond[-1]
        return self._tokens[len(self._recording.prompt) + place.on_text - 1]

    def _rank(self, places: Sequence[Place], logits: torch.Tensor) -> None:
        params, prompt = self._recording.params, len(self._recording.prompt)
        positions = [prompt + place.on_text + len(place.beyond) for place in places]
        device = logits.device
        columns = ops.draft_topk(
            logits[:, : self._vocab_size],
            RANKS,
            *self._filters.head(len(places)),
            torch.full((len(places),), params.seed, device=device),
            torch.tensor(positions, dtype=torch.int32, device=device),
            "gumbel",
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for place, row in zip(places, rows, strict=True):
            self.store.setdefault(place, Law(*row))


def _parent(place: Place) -> Place:
    if place.beyond:
        return Place(place.on_text, place.beyond[:-1])
    return Place(place.on_text - 1)
