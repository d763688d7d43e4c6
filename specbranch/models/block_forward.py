"""One forward over new nodes of draft blocks, as a function of tensors alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbranch import ops
from specbranch.models.attention import BlockPass, PrefillPass, attention_workspace
from specbranch.models.kv_pool import KVPool
from specbranch.models.support import cache_argument, last_layers


class BlockInputs(NamedTuple):
    """What a forward over T new nodes of B requests' blocks reads and, last, fills.

    Request b's rows are row_indptr[b] to row_indptr[b + 1]; they are the last nodes of its block.
    """

    tokens: Tensor  # int32 [1, T]
    position_ids: Tensor  # int32 [1, T]
    row_indptr: Tensor  # int32 [B + 1]
    context_lens: Tensor  # int32 [B]
    start: Tensor  # int32 [B], cache position of each request's first new node
    n_nodes: Tensor  # int32 [B], nodes of each block, the new ones included
    block_table: Tensor  # int32 [B, M]
    parents: Tensor  # int32 [B, N], each block's parents
    logits_rows: Tensor  # int32 [k], the rows whose logits are wanted
    ancestor_mask: Tensor  # int32 [T, W], filled by the forward
    depth: Tensor  # int32 [T], filled by the forward

    def head(self, requests: int, rows: int, logits_rows: int) -> BlockInputs:
        """Views of the first requests and rows, with logits of the first `logits_rows`."""
        return BlockInputs(
            self.tokens[:, :rows],
            self.position_ids[:, :rows],
            self.row_indptr[: requests + 1],
            self.context_lens[:requests],
            self.start[:requests],
            self.n_nodes[:requests],
            self.block_table[:requests],
            self.parents[:requests],
            self.logits_rows[:logits_rows],
            self.ancestor_mask[:rows],
            self.depth[:rows],
        )


class Forward(Protocol):
    """Runs a model over new nodes of blocks in a pool, whose pages it writes."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Logits [k, V] for `BlockInputs`, and with feature layers features [T, layers * hidden]:
        each row's outputs of those layers side by side, the earliest first, before the model's
        final norm."""
        ...

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """Append a part of one request's prompt to its context, without computing logits.

        block_table: int32 [1, M]. context_len: tokens before it.
        """
        ...


class BlockForward(nn.Module):
    """The `Forward` of a model as transformers wrote it.

    feature_layers: how many of the last decoder layers' outputs come out beside the logits.
    """

    def __init__(self, model: PreTrainedModel, pool: KVPool, feature_layers: int = 0) -> None:
        super().__init__()
        self.model = model
        self.pool = pool
        self._workspace = attention_workspace(pool)
        self._cache_argument = cache_argument(model)
        self._feature_layers = last_layers(model, feature_layers)

    @property
    def num_feature_layers(self) -> int:
        return len(self._feature_layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See Forward."""
        block = BlockInputs(*inputs)
        attention_pass = self.begin(block)
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

    def begin(self, block: BlockInputs) -> BlockPass:
        """Fill the mask of a forward; returns how its layers attend."""
        ops.tree_mask_out(
            block.parents, block.n_nodes, block.row_indptr, block.ancestor_mask, block.depth
        )
        return BlockPass(
            self.pool,
            block_table=block.block_table,
            context_lens=block.context_lens,
            start=block.start,
            n_nodes=block.n_nodes,
            row_indptr=block.row_indptr,
            ancestor_mask=block.ancestor_mask,
            workspace=self._workspace,
        )

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """See Forward."""
        device = block_table.device
        end = context_len + len(tokens)
        chunk = PrefillPass(self.pool, block_table, context_len, len(tokens))
        self.model.base_model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.arange(context_len, end, device=device)[None],
            attention_pass=chunk,
            use_cache=True,
            **{self._cache_argument: chunk},
        )


@contextmanager
def _outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden states [1, T, hidden] that each layer returns meanwhile on this thread:
    another may run the same model."""
    hidden_states: list[Tensor] = []
    thread = threading.get_ident()

    def collect(layer: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            hidden_states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(collect) for layer in layers]
    try:
        yield hidden_states
    finally:
        for hook in hooks:
            hook.remove()
