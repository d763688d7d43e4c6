"""One forward over new nodes of a draft block, as a function of tensors alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbranch import ops
from specbranch.cache import PagedKVCache
from specbranch.models.attention import BlockPass
from specbranch.models.support import cache_argument, last_layers


class BlockInputs(NamedTuple):
    """What a forward over n new nodes of a block of N reads."""

    tokens: Tensor  # int32 [1, n]
    position_ids: Tensor  # int32 [1, n]
    parents: Tensor  # int32 [1, max_nodes], the block's parents
    context_lens: Tensor  # int32 [1]
    start: Tensor  # int32 [1], cache position of the first new node
    n_nodes: Tensor  # int32 [1], N
    row_indptr: Tensor  # int32 [2], 0 and n
    logits_rows: Tensor  # int64 [k], the new nodes whose logits are wanted

    @property
    def n_rows(self) -> tuple[int, int]:
        """n and k."""
        return self.tokens.shape[1], len(self.logits_rows)

    def head(self, rows: int, logits_rows: int) -> BlockInputs:
        """Views of the first `rows` rows, with logits of the last `logits_rows` of those."""
        return self._replace(
            tokens=self.tokens[:, :rows],
            position_ids=self.position_ids[:, :rows],
            logits_rows=self.logits_rows[rows - logits_rows : rows],
        )


class BlockForward(nn.Module):
    """Runs a model over new nodes of the block in `pool`, whose pages it writes.

    feature_layers: how many of the last decoder layers' outputs come out beside the logits.
    """

    def __init__(self, model: PreTrainedModel, pool: PagedKVCache, feature_layers: int = 0) -> None:
        super().__init__()
        self.model = model
        self._pool = pool
        self._cache_argument = cache_argument(model)
        self._feature_layers = last_layers(model, feature_layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Logits [k, V] for `BlockInputs`, and with feature layers features [n, layers * hidden]:
        each row's outputs of those layers side by side, the earliest first, before the model's
        final norm."""
        block = BlockInputs(*inputs)
        attention_pass = BlockPass(
            self._pool,
            context_lens=block.context_lens,
            start=block.start,
            n_nodes=block.n_nodes,
            row_indptr=block.row_indptr,
            ancestor_mask=_ancestor_mask(block),
        )
        with _outputs_of(self._feature_layers) as hidden_states:
            output = self.model(
                input_ids=block.tokens,
                position_ids=block.position_ids,
                attention_pass=attention_pass,
                use_cache=True,
                logits_to_keep=block.logits_rows,
                **{self._cache_argument: attention_pass},
            )
        logits: Tensor = output.logits[0]
        if not hidden_states:
            return (logits,)
        return logits, torch.cat(hidden_states, dim=-1)[0]


def _ancestor_mask(block: BlockInputs) -> Tensor:
    """int32 [n, W]. A recording keeps sizes of tensors open, but not the argument `num_rows`."""
    depth = torch.empty_like(block.tokens[0])
    ancestor_mask = depth.new_empty(depth.shape[0], (block.parents.shape[1] + 31) // 32)
    ops.tree_mask_out(block.parents, block.n_nodes, block.row_indptr, ancestor_mask, depth)
    return ancestor_mask


@contextmanager
def _outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden states [1, n, hidden] that each layer returns meanwhile."""
    hidden_states: list[Tensor] = []

    def collect(layer: nn.Module, inputs: Any, output: Any) -> None:
        hidden_states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(collect) for layer in layers]
    try:
        yield hidden_states
    finally:
        for hook in hooks:
            hook.remove()
