"""One request on a runner, driven by hand."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from specbranch.models import ModelRunner
from specbranch.models.block import BlockRows, Keep


class Single:
    """A runner and the block of its only request."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner
        self.block = runner.open()

    @classmethod
    def of(cls, model: PreTrainedModel, **options: object) -> Single:
        return cls(ModelRunner(model, **options))

    @property
    def context_len(self) -> int:
        return self.block.context_len

    @property
    def parents(self) -> list[int]:
        return self.block.nodes.parents

    def prefill(self, tokens: Sequence[int]) -> None:
        self.runner.prefill(self.block, tokens)

    def forward(
        self,
        tokens: Sequence[int],
        parents: Sequence[int],
        logits_rows: int | None = None,
        written: Tensor | None = None,
    ) -> Tensor:
        """Logits of all new nodes, or of the last few. written: tokens that a device wrote."""
        rows = len(tokens) if logits_rows is None else logits_rows
        batch = [BlockRows(self.block, tokens, parents, rows)]
        return self.runner.forward(batch, tokens=written)

    def keep(self, slots: Sequence[int], n_context: int) -> None:
        self.runner.keep([Keep(self.block, slots, n_context)])

    def reset(self) -> None:
        self.block.rewind(0)
