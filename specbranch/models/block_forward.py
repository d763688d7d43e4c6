"""One forward over new nodes of a draft block, as a function of tensors alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from specbranch.cache import PagedKVCache
from specbranch.models.attention import BlockPass
from specbranch.models.support import cache_argument


class BlockInputs(NamedTuple):
    """What a forward over n new nodes of a block of N reads."""

    tokens: Tensor  # int32 [1, n]
    position_ids: Tensor  # int32 [1, n]
    ancestor_mask: Tensor  # int32 [1, n, W]
    context_lens: Tensor  # int32 [1]
    start: Tensor  # int32 [1], cache position of the first new node
    n_tokens: Tensor  # int32 [1], n
    n_nodes: Tensor  # int32 [1], N
    logits_rows: Tensor  # int64 [k], the new nodes whose logits are wanted


class BlockForward(nn.Module):
    """Runs a model over new nodes of the block in `pool`, whose pages it writes."""

    def __init__(self, model: PreTrainedModel, pool: PagedKVCache) -> None:
        super().__init__()
        self.model = model
        self._pool = pool
        self._cache_argument = cache_argument(model)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits [k, V] for `BlockInputs`."""
        block = BlockInputs(*inputs)
        attention_pass = BlockPass(
            self._pool,
            context_lens=block.context_lens,
            start=block.start,
            n_tokens=block.n_tokens,
            n_nodes=block.n_nodes,
            ancestor_mask=block.ancestor_mask,
        )
        output = self.model(
            input_ids=block.tokens,
            position_ids=block.position_ids,
            attention_pass=attention_pass,
            use_cache=True,
            logits_to_keep=block.logits_rows,
            **{self._cache_argument: attention_pass},
        )
        logits: Tensor = output.logits
        return logits[0]
