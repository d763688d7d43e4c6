"""What a user of vLLM can ask for: `additional_config={"specbranch": {...}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from specbranch.checks import is_integer, is_real, require
from specbranch.lanes.threads import permitted_cores
from specbranch.loading.placement import DTYPES
from specbranch.loading.quantized import WEIGHTS

SOURCES = ("model", "ngram", "model+ngram")


@dataclass(frozen=True)
class Options:
    """How the proposer drafts.

    draft: a model as `load_pair` takes it: a hub id, a folder, a `.gguf` file, `self:int4`, ... The
        text's own repetitions need none.
    source: who guesses: `model`, `ngram`, or both; without a draft n-grams alone.
    draft_device, draft_dtype: vLLM's own by default. draft_weights: as for `load_pair`.
    least: chance of being right that a guess needs to be verified, given the text.
    rows, fan: nodes of a text that a draft step computes, and their children, at most.
    max_nodes: of a text that the draft has computed, at most.
    max_texts: that are drafted for at a time; `max_num_seqs` by default, fewer where memory is
        short.
    cores: those of a draft on a CPU, by default the last half of those the process may use.
    steps: draft so many steps between two forwards, by turns with the target, instead of as many as
        there is time for beside it: reproducible, and slower.

    Raises ValueError naming the option, what was wanted and what came.
    """

    draft: str | None = None
    source: str = "model"
    draft_device: str | None = None
    draft_dtype: str | None = None
    draft_weights: str | None = None
    least: float = 0.1
    rows: int = 4
    fan: int = 16
    max_nodes: int = 64
    max_texts: int | None = None
    cores: Sequence[int] = ()
    steps: int | None = None

    @classmethod
    def of(cls, additional_config: Mapping[str, Any] | None) -> Options:
        """Those of vLLM's `additional_config`."""
        given = (additional_config or {}).get("specbranch", {})
        require("specbranch", "options by their names", given, isinstance(given, Mapping))
        known = [each.name for each in fields(cls)]
        for name in given:
            require(f"specbranch: {name}", f"an option ({', '.join(known)})", name, name in known)
        if "source" not in given and "draft" not in given:
            given = {**given, "source": "ngram"}
        return cls(**given)

    def __post_init__(self) -> None:
        in_dtypes = self.draft_dtype is None or self.draft_dtype in DTYPES
        in_weights = self.draft_weights is None or self.draft_weights in ("plain", *WEIGHTS)
        is_share = is_real(self.least) and 0 <= self.least <= 1
        usable = permitted_cores()
        for name, wanted, holds in (
            ("source", f"one of {', '.join(SOURCES)}", self.source in SOURCES),
            ("draft", "the name of a model", self.draft is None or _is_name(self.draft)),
            ("draft_device", "a device", self.draft_device is None or _is_name(self.draft_device)),
            ("draft_dtype", f"one of {', '.join(DTYPES)}", in_dtypes),
            ("draft_weights", f"plain, {', '.join(WEIGHTS)} or None", in_weights),
            ("least", "a number in [0, 1]", is_share),
            ("rows", "an integer >= 1", is_integer(self.rows, 1)),
            ("fan", "an integer from 1 to 255", is_integer(self.fan, 1, 256)),
            ("max_nodes", "an integer >= 2", is_integer(self.max_nodes, 2)),
            ("max_texts", "an integer >= 1", _is_count(self.max_texts)),
            ("steps", "an integer >= 1", _is_count(self.steps)),
            ("cores", f"cores of this process ({sorted(usable)})", _are_in(self.cores, usable)),
        ):
            require(f"specbranch: {name}", wanted, getattr(self, name), holds)
        if self.uses_model:
            wanted = f"the name of a model, for source {self.source!r}"
            require("specbranch: draft", wanted, self.draft, self.draft is not None)

    @property
    def uses_model(self) -> bool:
        return self.source != "ngram"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: object) -> bool:
    return value is None or is_integer(value, 1)


def _are_in(cores: object, usable: set[int]) -> bool:
    return isinstance(cores, Sequence) and all(core in usable for core in cores)
