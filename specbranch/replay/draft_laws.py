"""Laws from a draft model, each computed once and then remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specbranch import ops
from specbranch.models.block import BlockRows
from specbranch.models.runner import ModelRunner
from specbranch.models.sampling_rows import SamplingRows
from specbranch.replay.laws import RANKS, Law, LawStore, Place
from specbranch.replay.recording import Recording


class DraftModel:
    """A draft's runner, lent to one borrower at a time.

    runner: used by the borrowers alone. vocab_size: of the target; guesses stay below it.
    """

    def __init__(self, runner: ModelRunner, vocab_size: int) -> None:
        self.runner = runner
        self.vocab_size = min(vocab_size, runner.vocab_size)
        self.block = runner.open()
        self._borrower: object = None

    def lend(self, borrower: object) -> bool:
        """Whether the block is another's so far; it is emptied for the new borrower then."""
        if borrower is self._borrower:
            return False
        self._borrower = borrower
        self.block.rewind(0)
        return True


class DraftLaws:
    """The draft's laws around one recorded text; computes what `store` lacks.

    The draft's context is the text up to a base, its block the places asked for beyond, so that
    one forward serves all that a step lacks.

    open_draft: the draft, asked for where a law is lacking. store: extended in place.
    computed: rows that the draft had to compute.
    """

    def __init__(
        self, open_draft: Callable[[], DraftModel], recording: Recording, store: LawStore
    ) -> None:
        self.store = store
        self.computed = 0
        self._open_draft = open_draft
        self._recording = recording
        self._tokens = [*recording.prompt, *recording.text]
        self._base = 0
        self._slots: dict[Place, int] = {}

    def laws(self, places: Sequence[Place]) -> list[Law]:
        missing = [place for place in places if place not in self.store]
        if missing:
            self.compute(missing)
        return [self.store[place] for place in places]

    def compute_text(self) -> None:
        """Compute the law at every place on the text, in as few forwards as the block allows."""
        on_text = map(Place, range(len(self._recording.text)))
        missing = [place for place in on_text if place not in self.store]
        batch = self._open_draft().runner.max_nodes if missing else 1
        for start in range(0, len(missing), batch):
            self.compute(missing[start : start + batch])

    def compute(self, places: Sequence[Place]) -> None:
        """Compute and store the laws of distinct places, in one forward if its block has room."""
        draft = self._open_draft()
        first = min(place.on_text for place in places)
        if draft.lend(self) or first < self._base:
            self._move_base(draft, first)
        lacking = self._lacking(places)
        if len(self._slots) + len(lacking) > draft.runner.max_nodes:
            self._move_base(draft, first)
            lacking = self._lacking(places)
        if len(lacking) > draft.runner.max_nodes and len(places) > 1:
            half = len(places) // 2
            self.compute(places[:half])
            self.compute(places[half:])
        else:
            self._compute(draft, lacking)

    def _compute(self, draft: DraftModel, lacking: Sequence[Place]) -> None:
        parents = []
        for place in lacking:
            parents.append(-1 if place == Place(self._base) else self._slots[_parent(place)])
            self._slots[place] = len(self._slots)
        known = draft.runner.vocab_size
        tokens = [self._token(place) % known for place in lacking]
        rows = BlockRows(draft.block, tokens, parents, len(tokens))
        logits = draft.runner.forward([rows])
        self._rank(lacking, logits[:, : draft.vocab_size], draft.runner.token_ids)
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

    def _move_base(self, draft: DraftModel, base: int) -> None:
        """Let the block begin with the text's token before position `base`."""
        self._base = base
        self._slots.clear()
        block, context_len = draft.block, len(self._recording.prompt) + base - 1
        # What the cache holds beyond the context is overwritten by what comes next.
        block.rewind(min(block.context_len, context_len))
        context = self._tokens[block.context_len : context_len]
        draft.runner.prefill(block, [token % draft.runner.vocab_size for token in context])

    def _token(self, place: Place) -> int:
        if place.beyond:
            return place.beyond[-1]
        return self._tokens[len(self._recording.prompt) + place.on_text - 1]

    def _rank(self, places: Sequence[Place], logits: Tensor, token_ids: Tensor | None) -> None:
        params, prompt = self._recording.params, len(self._recording.prompt)
        positions = [prompt + place.on_text + len(place.beyond) for place in places]
        device, rows = logits.device, len(places)
        columns = ops.draft_topk(
            logits,
            RANKS,
            *SamplingRows(rows, device).send([(params, [params.seed] * rows)]),
            torch.tensor(positions, dtype=torch.int32, device=device),
            "gumbel",
            token_ids,
        )
        laws = zip(*(column.tolist() for column in columns), strict=True)
        for place, law in zip(places, laws, strict=True):
            self.store.setdefault(place, Law(*law))


def _parent(place: Place) -> Place:
    if place.beyond:
        return Place(place.on_text, place.beyond[:-1])
    return Place(place.on_text - 1)
