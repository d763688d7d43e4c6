"""The whole forward of a model as one call into C++, which holds no interpreter lock.

Two models that run at the same time in one process share that lock, and a forward of 30 layers by
transformers makes a thousand short calls that each give it up and want it back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbranch import _C
from specbranch.models import skeleton
from specbranch.models.block_forward import BlockForward, BlockInputs

READ_ROWS = 128  # of a prompt at once: its attention takes longer within a block than before it


def in_one_call(forward: BlockForward, positions: int) -> OneCall | None:
    """What `forward` does, or None if its model is not of the common skeleton.

    positions: how many a text can have. What is put on the model later is not seen, but for new
    values in tensors that are not packed.
    """
    decoder = skeleton.decoder(forward.model, forward.pool, positions)
    return None if decoder is None else OneCall(decoder, forward)


class OneCall:
    """A BlockForward whose model is run by a decoder."""

    def __init__(self, decoder: _C.Decoder, forward: BlockForward) -> None:
        self._decoder = decoder
        self._like = forward.pool.k[0]
        self._columns = forward.model.get_output_embeddings().out_features
        self._width = forward.num_feature_layers * forward.model.config.hidden_size

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        block = BlockInputs(*inputs)
        logits = self._like.new_empty(len(block.logits_rows), self._columns)
        if not self._width:
            self._decoder.run(*block, logits, None)
            return (logits,)
        features = self._like.new_empty(block.tokens.shape[1], self._width)
        self._decoder.run(*block, logits, features)
        return logits, features

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """See BlockForward. A few rows at a time, as a chain of nodes that all stay."""
        for first in range(0, len(tokens), READ_ROWS):
            piece = tokens[first : first + READ_ROWS]
            chain = _chain(piece, block_table, context_len + first)
            self._decoder.run(*chain, self._like.new_empty(0, self._columns), None)


def _chain(tokens: Sequence[int], block_table: Tensor, context_len: int) -> BlockInputs:
    count = len(tokens)
    start = _ints([context_len])
    return BlockInputs(
        tokens=_ints([tokens]),
        position_ids=_ints([range(context_len, context_len + count)]),
        row_indptr=_ints([0, count]),
        context_lens=start,
        start=start,
        n_nodes=_ints([count]),
        block_table=block_table,
        parents=_ints([range(-1, count - 1)]),
        logits_rows=_ints([]),
        ancestor_mask=torch.empty(count, -(-count // 32), dtype=torch.int32),
        depth=torch.empty(count, dtype=torch.int32),
    )


def _ints(values: Sequence[object]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)
