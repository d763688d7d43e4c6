"""A folder of examples: one file a prompt, and what they were collected with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from specbranch.files import write_whole


@dataclass(frozen=True, slots=True)
class Settings:
    """What all examples of a folder have in common.

    gamma: guesses of a block. sampling: the request's parameters that shape its text.
    """

    target: str
    draft: str
    dtype: str
    gamma: int
    feature_layers: int
    hidden_size: int
    sampling: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PromptExamples:
    """The n examples of one prompt's text.

    inputs: [n, (feature_layers + 1) * hidden_size], see `features`.
    accepted: int64 [n], right guesses of the next block. block: float32 [n, gamma, 2], max_prob and
    entropy of the laws that the draft made them from.
    """

    inputs: Tensor
    accepted: Tensor
    block: Tensor
    category: str


class Collection:
    """The examples in `folder`, written prompt by prompt.

    A file has its final name only once it is whole, so that after a kill at any moment the prompts
    that have a file are those that are done.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def resume(cls, folder: str | Path, settings: Settings) -> Collection:
        """The collection to add to, new or begun before.

        Raises ValueError if it was begun with other settings.
        """
        collection = cls(folder)
        collection.folder.mkdir(parents=True, exist_ok=True)
        if not collection._settings_file.exists():
            write_whole(collection._settings_file, json.dumps(asdict(settings), indent=1))
        begun, ours = asdict(collection.settings), asdict(settings)
        for name in ours:
            if begun[name] != ours[name]:
                raise ValueError(
                    f"out: expected a new folder, or one begun with {name} {ours[name]!r}, "
                    f"got {folder} with {begun[name]!r}"
                )
        return collection

    @property
    def settings(self) -> Settings:
        """Raises ValueError if the folder holds no collection."""
        if not self._settings_file.is_file():
            raise ValueError(f"data: expected a folder of `hrad collect`, got {self.folder}")
        return Settings(**json.loads(self._settings_file.read_text()))

    def __contains__(self, prompt: str) -> bool:
        return self._file(prompt).is_file()

    def add(self, prompt: str, examples: PromptExamples) -> None:
        """Write the examples of one prompt."""
        tensors = {
            "inputs": examples.inputs.contiguous(),
            "accepted": examples.accepted,
            "block": examples.block,
        }
        write_whole(self._file(prompt), save(tensors, metadata={"category": examples.category}))

    def load(self) -> list[PromptExamples]:
        """All examples, in an order that depends on the prompts alone."""
        return [_read(path) for path in sorted(self.folder.glob("*.safetensors"))]

    @property
    def _settings_file(self) -> Path:
        return self.folder / "settings.json"

    def _file(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:16]}.safetensors"


def _read(path: Path) -> PromptExamples:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return PromptExamples(**tensors, **file.metadata())
