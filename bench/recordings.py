"""Texts and draft laws to replay, recorded when they are first asked for.

For each prompt and temperature, what the target alone writes (once for all drafts) and the draft's
laws around that text. What is there already is kept, so an interrupted run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.methods import MAX_NODES
from bench.prompts import FOLDER as PROMPTS
from bench.prompts import TEXT_SETS as SETS
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.loading import ModelPair, load_pair
from specbranch.models.runner import ModelRunner
from specbranch.policies import SpeculativeSampling
from specbranch.prompts import read_prompts
from specbranch.replay import DraftLaws, DraftModel, LawStore, Recording, record
from specbranch.sampling import SamplingParams

FOLDER = Path("build/replay")
TEMPERATURES = (0.0, 1.0)
NEW_TOKENS = 128
MAX_LEN = 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One request that can be recorded: the index-th prompt of a set, at a temperature."""

    prompts: str
    index: int
    temperature: float

    @property
    def name(self) -> str:
        return f"{self.prompts}-{self.index:03d}-T{self.temperature:g}"

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(temperature=self.temperature, max_new_tokens=NEW_TOKENS)

    def prompt(self) -> str:
        path = PROMPTS / f"{self.prompts}.jsonl"
        return read_prompts(path, self.index + 1)[self.index].prompt


def cases(first: int, count: int, temperatures: Sequence[float] = TEMPERATURES) -> list[Case]:
    """Prompts `first` to `first + count` of every set; every beginning of the list is balanced."""
    return [
        Case(prompts, index, temperature)
        for index in range(first, first + count)
        for prompts in SETS
        for temperature in temperatures
    ]


class Recordings:
    """The recordings of a pair and their law stores, in a folder.

    The models are loaded where something is missing, and not before. What is kept goes by the
    models' names: a draft trained anew under its old name needs a new folder.
    """

    def __init__(self, target: str, draft: str, folder: Path = FOLDER) -> None:
        self.target, self.draft = target, draft
        self._texts = folder / _slug(target)
        self.folder = folder / f"{_slug(target)}+{_slug(draft)}"

    @cached_property
    def pair(self) -> ModelPair:
        return load_pair(self.target, self.draft)

    def recording(self, case: Case) -> Recording:
        """What the target writes, recorded now if it was not before."""
        path = self._text_path(case)
        if path.is_file():
            return Recording.load(path)
        recording = record(self._writer, case.prompt(), case.params)
        recording.save(path)
        return recording

    def laws(self, case: Case) -> DraftLaws:
        """The draft's laws around the text, as far as they were saved; the rest when asked for."""
        store = LawStore.load(self._laws_path(case))
        return DraftLaws(lambda: self._draft_model, self.recording(case), store)

    def save(self, case: Case, laws: DraftLaws) -> None:
        """Keep what the draft has computed since the last time, if anything."""
        if laws.computed:
            laws.store.save(self._laws_path(case))
            laws.computed = 0

    def _text_path(self, case: Case) -> Path:
        return self._texts / f"{case.name}.json"

    def _laws_path(self, case: Case) -> Path:
        return self.folder / f"{case.name}.npz"

    @cached_property
    def _writer(self) -> Engine:
        """Any policy writes plain decoding's text; this one writes it sooner."""
        lanes = VirtualLanes(CostModel.parse("virtual:c=1"))
        return Engine(self.pair, SpeculativeSampling(gamma=8), lanes=lanes, max_len=MAX_LEN)

    @cached_property
    def _draft_model(self) -> DraftModel:
        self.pair.require_shared_ids("to be replayed")
        target = self.pair.target.get_output_embeddings().out_features
        runner = ModelRunner(self.pair.draft, max_len=MAX_LEN, max_nodes=MAX_NODES)
        return DraftModel(runner, target)


def _slug(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name).strip("-")
