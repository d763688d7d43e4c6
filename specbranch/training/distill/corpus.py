"""Written passages on disk: numbered safetensors files in a folder, each whole or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from specbranch.files import write_whole
from specbranch.training.distill.generate import Written


@dataclass(frozen=True, slots=True)
class Shard:
    """Passages end to end.

    tokens: int32 [n]. hidden: [n, H]. starts: int64 [s + 1], where each passage starts, and n.
    answer_starts, prompts: int64 [s], see `Written`. greedy: bool [s].
    """

    tokens: Tensor
    hidden: Tensor
    starts: Tensor
    answer_starts: Tensor
    prompts: Tensor
    greedy: Tensor

    @classmethod
    def of(cls, passages: Sequence[Written]) -> Shard:
        lengths = torch.tensor([0, *(len(passage.tokens) for passage in passages)])
        return cls(
            torch.cat([passage.tokens for passage in passages]),
            torch.cat([passage.hidden for passage in passages]),
            lengths.cumsum(0),
            torch.tensor([passage.answer_start for passage in passages]),
            torch.tensor([passage.prompt for passage in passages]),
            torch.tensor([passage.greedy for passage in passages]),
        )


class Corpus:
    """A folder of shards. Several writers may add to it, each with a seed of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, passages: Sequence[Written], seed: int, next_passage: int) -> Path:
        """Write a shard. `next_passage` is where a writer with that seed would go on."""
        path = self.folder / f"{seed}-{len(self._of(seed)):05}.safetensors"
        shard = Shard.of(passages)
        tensors = {name: getattr(shard, name).contiguous() for name in Shard.__slots__}
        write_whole(path, save(tensors, {"next_passage": json.dumps(next_passage)}))
        return path

    def next_passage(self, seed: int) -> int:
        """The first passage of that seed that no shard has begun."""
        shards = self._of(seed)
        if not shards:
            return 0
        with safe_open(shards[-1], "pt") as shard:
            return int(json.loads(shard.metadata()["next_passage"]))

    def shards(self) -> list[Path]:
        """All shards, by seed and number."""
        return sorted(self.folder.glob("*.safetensors"))

    def _of(self, seed: int) -> list[Path]:
        return sorted(self.folder.glob(f"{seed}-*.safetensors"))


def read_shard(path: Path) -> Shard:
    """Map a shard into memory."""
    with safe_open(path, "pt") as shard:
        return Shard(**{name: shard.get_tensor(name) for name in Shard.__slots__})
