"""One model, its paged cache, and forwards over the draft blocks of several requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch import ops
from specbranch.models.attention import ATTENTION_NAME
from specbranch.models.block import Block, BlockRows, Keep
from specbranch.models.block_forward import BlockForward, BlockInputs, Forward
from specbranch.models.buffers import ForwardBuffers, KeepBuffers
from specbranch.models.cuda_graphs import CapturedForward, CudaCapture
from specbranch.models.fused import fused
from specbranch.models.kv_pool import KVPool
from specbranch.models.one_call import in_one_call
from specbranch.models.prefixes import Prefixes
from specbranch.models.support import kv_shape, max_positions, seen, steady_positions

PREFILL_CHUNK = 512  # prompts are read in chunks that begin at its multiples
WARM_ROWS = 16  # a round's forward seldom has more

Prepare = Callable[[BlockForward, BlockInputs], Forward]


class ModelRunner:
    """Runs requests on one model; what is a request's own is its `Block`.

    A forward appends nodes to the blocks of several requests and computes them as one batch; `keep`
    moves what is kept to the front, in place. Between two of those a cache is only appended to.

    pool: the paged keys and values. prefixes: beginnings of prompts in it.
    max_requests, max_len, max_nodes: how many requests, and committed tokens and nodes of one, a
        forward can take.
    max_positions: the model's own limit of positions; what the cache holds if it has none.
    vocab_size: tokens that the model knows; columns of the logits, unless `token_ids` says which.
    token_ids: int32, the token of each column where the head lacks some, else None.
    device, dtype: of the logits.
    next_positions: int32 [k], the position of the token that each row of logits of the latest
        forward decides; the next forward overwrites it.
    feature_layers: how many of the last decoder layers make up `features`.
    features: [T, feature_layers * hidden] in the model's dtype, the outputs of the last decoder
        layers side by side for each row of the latest forward; a forward may overwrite those of
        the one before. None without feature layers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        max_len: int,
        max_nodes: int,
        max_requests: int = 1,
        cache_tokens: int | None = None,
        page_size: int = 64,
        reuse_prefixes: bool = False,
        feature_layers: int = 0,
        prepare: Prepare | None = None,
    ) -> None:
        """Reserve room for `cache_tokens` and blocks, and switch the model to our attention.

        model: a decoder; its attention implementation is set to "specbranch", so until
            `model.set_attn_implementation("sdpa")` it runs under a ModelRunner only.
        max_len: most committed tokens of a request.
        max_nodes: most nodes of a request's draft block.
        cache_tokens: committed tokens of all requests, max_requests * max_len by default.
        page_size: tokens a page; a divisor of PREFILL_CHUNK where prefixes are reused.
        reuse_prefixes: whether chunks of prompts stay for requests that begin with them.
        feature_layers: 0 for no features.
        prepare: see `prepared`, the default.

        Raises ValueError for a model that we cannot run (see `kv_shape`), a size below 1, or more
        feature layers than the model has.
        """
        for name, size in (("max_nodes", max_nodes), ("max_requests", max_requests)):
            if size < 1:
                raise ValueError(f"ModelRunner: {name}: expected at least 1, got {size}")
        shape = kv_shape(model)
        self.model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        config = model.config.get_text_config(decoder=True)
        self.vocab_size: int = config.vocab_size
        self.token_ids: Tensor | None = getattr(model, "token_ids", None)
        self.max_positions = max_positions(model, max_len + max_nodes)
        max_len = self._within_steady_positions(max_len, max_nodes)
        self.max_requests = max_requests
        self.max_len = max_len
        self.max_nodes = max_nodes
        self.feature_layers = feature_layers
        max_pages = -(-(max_len + max_nodes) // page_size)
        tokens = max_requests * max_len if cache_tokens is None else cache_tokens
        self.pool = KVPool(
            shape.num_layers,
            shape.num_kv_heads,
            shape.head_dim,
            num_pages=-(-(tokens + max_requests * max_nodes) // page_size) + max_requests,
            page_size=page_size,
            dtype=self.dtype,
            device=self.device,
        )
        self.prefixes = Prefixes(self.pool, PREFILL_CHUNK)
        self._reuse_prefixes = reuse_prefixes
        model.eval()
        model.set_attn_implementation(ATTENTION_NAME)
        sizes = max_requests, max_nodes, max_pages
        self._forward_buffers = ForwardBuffers(*sizes, self.device)
        self._keep_buffers = KeepBuffers(*sizes, self.device)
        self._block_forward = BlockForward(model, self.pool, feature_layers)
        self._prepare = prepare or prepared
        self._forward: Forward | None = None
        self._seen = seen(model)
        self.features: Tensor | None = None
        self.next_positions = self._forward_buffers.next_positions

    def has_room(self, max_len: int) -> bool:
        """Whether a request of so many committed tokens finds room now."""
        free = self.pool.num_free + self.prefixes.num_spare
        return self.pool.pages_for(max_len + self.max_nodes) <= free

    def open(self, max_len: int | None = None, prompt: Sequence[int] = ()) -> Block:
        """A block for a new request.

        max_len: committed tokens that it will have at most, the runner's by default.
        prompt: what it will read. As much as its beginning that is known is its context already.

        What has been put on the model since the last request (an adapter, a hook, other modules or
        weights) counts from here on.

        Raises ValueError, and takes nothing, where there is no room.
        """
        max_len = self.max_len if max_len is None else max_len
        if max_len > self.max_len:
            raise ValueError(f"max_len: expected at most {self.max_len}, got {max_len}")
        self._look_again()
        known = self.prefixes.hold(prompt)
        wanted = self.pool.pages_for(max_len + self.max_nodes) - len(known)
        self.prefixes.make_room(wanted)
        try:
            pages = [*known, *self.pool.take(wanted)]
        except ValueError:
            self.pool.give_back(known)
            raise
        block = Block(np.array(pages, np.int32), max_len, self.max_nodes)
        block.context_len = len(known) * self.pool.page_size
        return block

    def warm_up(self, most_rows: int = WARM_ROWS) -> None:
        """Run forwards of 1 to so many rows, for which torch makes kernels once, and, where
        forwards are captured, capture them all.

        Raises ValueError where there is no room for a request.
        """
        block = self.open(min(2, self.max_len))
        self.prefill(block, [0] * min(2, self.max_len))
        for rows in range(1, min(self.max_nodes, most_rows) + 1):
            self.forward([BlockRows(block, [0] * rows, [-1] + [0] * (rows - 1), rows)])
            self.keep([Keep(block, [], 0)])
        self.close(block)

    def close(self, block: Block) -> None:
        """Give back what `open` gave."""
        self.pool.give_back(block.pages.tolist())

    def read_chunk(self, block: Block, prompt: Sequence[int]) -> None:
        """Commit what is left of a prompt up to the end of a chunk. Whole chunks are remembered."""
        stop = min(chunk_end(block.context_len), len(prompt))
        self.prefill(block, prompt[block.context_len : stop])
        if self._reuse_prefixes:
            self.prefixes.remember(prompt[:stop], block.pages.tolist())

    @torch.inference_mode()
    def prefill(self, block: Block, tokens: Sequence[int]) -> None:
        """Commit tokens as a request's context, chunk by chunk, without computing logits.

        Raises ValueError if the block is not empty, the context would outgrow `max_len`, or a token
        is outside the vocabulary. The context is then as before.
        """
        if len(block):
            raise ValueError(f"prefill: expected an empty block, got {len(block)} nodes")
        end = block.context_len + len(tokens)
        block.require_context(end, "prefill: tokens")
        self._check_tokens("prefill", tokens)
        forward = self._prepared_forward()
        block_table = torch.from_numpy(block.pages)[None].to(self.device)
        first = start = block.context_len
        while start < end:
            stop = min(end, chunk_end(start))
            forward.read(tokens[start - first : stop - first], block_table, start)
            start = stop
        block.context_len = end

    @torch.inference_mode()
    def forward(self, batch: Sequence[BlockRows], tokens: Tensor | None = None) -> Tensor:
        """Append nodes to the blocks of several requests and compute them in one forward.

        batch: the new nodes, at least one of each request, each request once.
        tokens: int32 [rows] on the device, read in place of the batch's; where one is negative,
            0 is.

        Returns logits [k, columns] in the model's dtype, of the wanted rows in the batch's order;
        on a GPU the next forward overwrites them. Raises ValueError for no or too many nodes, a
        parent that does not come before its child, or a token outside the vocabulary. Blocks are
        then as before.
        """
        self._check_batch(batch)
        grown = [rows.block.with_nodes(rows.parents) for rows in batch]
        run = self._prepared_forward()
        inputs = self._forward_buffers.send(batch, grown)
        if tokens is not None:
            torch.clamp(tokens, min=0, out=inputs.tokens[0])
        logits, *features = run(*inputs)
        self.features = features[0] if features else None
        self.next_positions = self._forward_buffers.next_positions[: len(logits)]
        for rows, nodes in zip(batch, grown, strict=True):
            rows.block.nodes = nodes
        return logits

    @torch.inference_mode()
    def keep(self, batch: Sequence[Keep]) -> None:
        """Keep some nodes of several requests' blocks, in place, and drop their others.

        Raises ValueError for slots that cannot be kept, see `Block.kept`. Blocks are then as
        before.
        """
        remaining = [block.kept(slots, n_context) for block, slots, n_context in batch]
        block_table, *lengths = self._keep_buffers.send(batch)
        ops.compact_kv_(self.pool.k, self.pool.v, block_table, *lengths)
        for (block, _, n_context), nodes in zip(batch, remaining, strict=True):
            block.context_len += n_context
            block.nodes = nodes

    def _within_steady_positions(self, max_len: int, max_nodes: int) -> int:
        """As much of `max_len` as leaves the nodes beyond it positions that the model can have."""
        steady = steady_positions(self.model)
        if steady is None:
            return max_len
        if steady <= max_nodes:
            raise ValueError(
                f"max_nodes: expected less than {steady}, where the RoPE of "
                f"{type(self.model).__name__} changes, got {max_nodes}"
            )
        self.max_positions = min(self.max_positions, steady - max_nodes)
        return min(max_len, self.max_positions)

    def _prepared_forward(self) -> Forward:
        if self._forward is None:
            self._forward_buffers.send([], [])
            self._forward = self._prepare(self._block_forward, self._forward_buffers.inputs)
            self._seen = seen(self.model)  # weights may have been laid side by side
        return self._forward

    def _look_again(self) -> None:
        """Prepare the next forward anew if the model is not what it was."""
        now = seen(self.model)
        if now != self._seen:
            self._seen, self._forward = now, None

    def _check_batch(self, batch: Sequence[BlockRows]) -> None:
        if not 1 <= len(batch) <= self.max_requests:
            raise ValueError(
                f"forward: batch: expected 1 to {self.max_requests} requests, got {len(batch)}"
            )
        for _, tokens, parents, logits_rows in batch:
            if not tokens or len(tokens) != len(parents):
                raise ValueError(
                    f"forward: tokens, parents: expected the same length of at least 1, "
                    f"got {len(tokens)} and {len(parents)}"
                )
            if not 1 <= logits_rows <= len(tokens):
                raise ValueError(
                    f"forward: logits_rows: expected 1 to {len(tokens)}, got {logits_rows}"
                )
            self._check_tokens("forward", tokens)

    def _check_tokens(self, where: str, tokens: Sequence[int]) -> None:
        if tokens and not (min(tokens) >= 0 and max(tokens) < self.vocab_size):
            raise ValueError(
                f"{where}: tokens: expected ids from 0 to {self.vocab_size - 1}, "
                f"got {min(tokens)} to {max(tokens)}"
            )


def chunk_end(position: int) -> int:
    """Where the chunk of a prompt ends that has this position."""
    return (position // PREFILL_CHUNK + 1) * PREFILL_CHUNK


def prepared(forward: BlockForward, buffers: BlockInputs) -> Forward:
    """What runs `forward`, of our own making where its model is of the common skeleton: captured on
    a GPU, in one call on a CPU.

    buffers: what all its inputs will be views of; none of their rows is real.
    """
    positions = buffers.block_table.shape[1] * forward.pool.page_size
    device = buffers.tokens.device
    if device.type == "cuda":
        return CapturedForward(fused(forward, positions) or forward, buffers, CudaCapture(device))
    return in_one_call(forward, positions) or forward
