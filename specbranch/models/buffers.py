"""The integers of a runner's forwards and commits, each sent to the device in one copy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbranch.models.block_forward import BlockInputs
from specbranch.staging import upload


class ForwardBuffers:
    """What forwards read, at the same addresses each time.

    inputs: BlockInputs of `max_nodes` rows; a forward's own are the first of them.
    next_positions: int32 [max_nodes], for each new node the position of the token after it.
    """

    def __init__(self, max_nodes: int, device: torch.device) -> None:
        self._max_nodes = max_nodes
        self._upload = upload(5 + 4 * max_nodes, torch.int32, device)
        lengths, rows = self._upload.tensor[:5], self._upload.tensor[5:]
        context_lens, start, n_nodes, row_indptr = lengths.split([1, 1, 1, 2])
        tokens, position_ids, parents, self.next_positions = rows.view(4, -1).unbind()
        self.inputs = BlockInputs(
            tokens=tokens[None],
            position_ids=position_ids[None],
            parents=parents[None],
            context_lens=context_lens,
            start=start,
            n_nodes=n_nodes,
            row_indptr=row_indptr,
            logits_rows=torch.arange(max_nodes, device=device),
        )

    def send(
        self,
        context_len: int,
        tokens: Sequence[int],
        positions: Sequence[int],
        block: Sequence[int],
    ) -> None:
        """Send a forward over the block's last nodes.

        tokens, positions: of the new nodes. block: parent slot of each node, the new ones included.
        """
        n_tokens, n_nodes = len(tokens), len(block)
        values = self._upload.values()
        values[:5] = context_len, context_len + n_nodes - n_tokens, n_nodes, 0, n_tokens
        rows = values[5:].reshape(4, self._max_nodes)
        rows[0, :n_tokens] = tokens
        rows[1, :n_tokens] = positions
        rows[2, :n_nodes] = block
        rows[3, :n_tokens] = rows[1, :n_tokens] + 1
        self._upload.send()


class CommitBuffers:
    """What `compact_kv_` reads: context_lens and keep_lens int32 [1], keep int32 [1, max_nodes]."""

    def __init__(self, max_nodes: int, device: torch.device) -> None:
        self._upload = upload(2 + max_nodes, torch.int32, device)
        self.context_lens, self.keep_lens, _ = self._upload.tensor.split([1, 1, max_nodes])
        self.keep: Tensor = self._upload.tensor[None, 2:]

    def send(self, context_len: int, keep: Sequence[int]) -> None:
        """Send the slots to keep."""
        values = self._upload.values()
        values[:2] = context_len, len(keep)
        values[2 : 2 + len(keep)] = keep
        self._upload.send()
