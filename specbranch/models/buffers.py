"""The integers of a runner's forwards and compactions, each sent to the device in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import accumulate

import torch

from specbranch.models.block import BlockRows, Keep, Nodes
from specbranch.models.block_forward import BlockInputs
from specbranch.models.transfers import VIEWS, UploadRecord


class ForwardBuffers:
    """What forwards read, at the same addresses each time.

    max_requests, max_nodes, max_pages: requests of a forward, nodes of a block and pages of a
        block table, at most.
    inputs: BlockInputs of as many requests and rows as there can be; a forward's own come first.
    next_positions: int32 [rows], for each row of logits the position of the token it decides.
    """

    def __init__(
        self, max_requests: int, max_nodes: int, max_pages: int, device: torch.device
    ) -> None:
        max_rows = max_requests * max_nodes
        self._record = UploadRecord(
            [
                ("row_indptr", "i4", (max_requests + 1,)),
                ("context_lens", "i4", (max_requests,)),
                ("start", "i4", (max_requests,)),
                ("n_nodes", "i4", (max_requests,)),
                ("block_table", "i4", (max_requests, max_pages)),
                ("parents", "i4", (max_requests, max_nodes)),
                ("tokens", "i4", (max_rows,)),
                ("position_ids", "i4", (max_rows,)),
                ("logits_rows", "i4", (max_rows,)),
                ("next_positions", "i4", (max_rows,)),
            ],
            device,
        )
        fields = self._record.fields
        self.next_positions = fields.pop("next_positions")
        words = -(-max_nodes // 32)
        self.inputs = BlockInputs(
            tokens=fields.pop("tokens")[None],
            position_ids=fields.pop("position_ids")[None],
            **fields,
            ancestor_mask=torch.zeros(max_rows, words, dtype=torch.int32, device=device),
            depth=torch.zeros(max_rows, dtype=torch.int32, device=device),
        )
        self._head = lru_cache(VIEWS)(self.inputs.head)

    def send(self, batch: Sequence[BlockRows], grown: Sequence[Nodes]) -> BlockInputs:
        """Send a forward, perhaps of no request, and return what it reads.

        batch: the new nodes, request by request. grown: each request's block with them.
        """
        host = self._record.host()
        ends = list(accumulate((len(rows.tokens) for rows in batch), initial=0))
        tokens, positions = host["tokens"], host["position_ids"]
        logits_rows, next_positions = host["logits_rows"], host["next_positions"]
        # Of a captured forward's other requests and rows, none is alive and all are within bounds,
        # of tables and of positions: RoPE may choose by the largest.
        host["row_indptr"][len(batch) :] = ends[-1]
        host["n_nodes"][len(batch) :] = 0
        tokens[ends[-1] :] = 0
        positions[ends[-1] :] = 0
        logits_rows[:] = 0
        wanted = 0
        for b, (rows, nodes, first, end) in enumerate(
            zip(batch, grown, ends[:-1], ends[1:], strict=True)
        ):
            block, n_nodes = rows.block, len(nodes.parents)
            host["row_indptr"][b] = first
            host["context_lens"][b] = block.context_len
            host["start"][b] = block.context_len + n_nodes - (end - first)
            host["n_nodes"][b] = n_nodes
            host["block_table"][b, : len(block.pages)] = block.pages
            host["parents"][b, :n_nodes] = nodes.parents
            tokens[first:end] = rows.tokens
            positions[first:end] = nodes.positions[first - end :]
            before, wanted = wanted, wanted + rows.logits_rows
            logits_rows[before:wanted] = range(end - rows.logits_rows, end)
            next_positions[before:wanted] = positions[end - rows.logits_rows : end] + 1
        self._record.send()
        return self._head(len(batch), ends[-1], wanted)


class KeepBuffers:
    """What `compact_kv_` reads: context_lens, keep_lens int32 [B], keep int32 [B, max_nodes] and
    block_table int32 [B, max_pages]."""

    def __init__(
        self, max_requests: int, max_nodes: int, max_pages: int, device: torch.device
    ) -> None:
        self._record = UploadRecord(
            [
                ("block_table", "i4", (max_requests, max_pages)),
                ("context_lens", "i4", (max_requests,)),
                ("keep", "i4", (max_requests, max_nodes)),
                ("keep_lens", "i4", (max_requests,)),
            ],
            device,
        )
        self._head = lru_cache(VIEWS)(partial(_first, list(self._record.fields.values())))

    def send(self, batch: Sequence[Keep]) -> list[torch.Tensor]:
        """Send what to keep; returns block_table, context_lens, keep and keep_lens."""
        host = self._record.host()
        for b, (block, slots, _) in enumerate(batch):
            host["block_table"][b, : len(block.pages)] = block.pages
            host["context_lens"][b] = block.context_len
            host["keep"][b, : len(slots)] = slots
            host["keep_lens"][b] = len(slots)
        self._record.send()
        return self._head(len(batch))


def _first(fields: Sequence[torch.Tensor], requests: int) -> list[torch.Tensor]:
    return [field[:requests] for field in fields]
