"""One model, its paged cache, and the draft block that it is computing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch.cache import PagedKVCache
from specbranch.models.attention import ATTENTION_NAME, PrefillPass
from specbranch.models.block_forward import BlockForward, BlockInputs
from specbranch.models.buffers import CommitBuffers, ForwardBuffers
from specbranch.models.cuda_graphs import CapturedForward, CudaCapture
from specbranch.models.support import cache_argument, kv_shape
from specbranch.models.traced import traced

PREFILL_CHUNK = 512


class ModelRunner:
    """Runs one request on one model: committed context, then a draft block of tree nodes.

    The block holds the nodes in slot order with their parents' slots. A forward appends nodes to it
    and computes them as one batch over the shared context; a commit moves what is kept to the
    front, in place. Between two commits the cache is only ever appended to.

    context_len: committed tokens in the cache.
    block: parent slot of each node present, -1 for the root.
    cache: the paged pool.
    max_len, max_nodes: how many committed tokens and how many nodes fit.
    max_positions: the model's own limit of positions; what the cache holds if it has none.
    vocab_size: tokens that the model knows; columns of the logits, unless `token_ids` says which.
    token_ids: int32, the token of each column where the head lacks some, else None.
    device, dtype: of the logits.
    next_positions: int32 [k], the position of the token that each row of logits of the latest
        forward decides; the next forward overwrites it.
    features: [n, feature_layers * hidden] in the model's dtype, the outputs of the last decoder
        layers side by side for each new node of the latest forward; a forward may overwrite those
        of the one before. None without feature layers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        max_len: int,
        max_nodes: int,
        page_size: int = 64,
        feature_layers: int = 0,
    ) -> None:
        """Reserve `max_len + max_nodes` cache slots and switch the model to our attention.

        model: a decoder; its attention implementation is set to "specbranch", so until
            `model.set_attn_implementation("sdpa")` it runs under a ModelRunner only.
        max_len: most committed tokens.
        max_nodes: most nodes of the draft block.
        page_size: tokens a page.
        feature_layers: how many of the last decoder layers make up `features`.

        Raises ValueError for a model that we cannot run (see `kv_shape`), a size below 1, or more
        feature layers than the model has.
        """
        if max_nodes < 1:
            raise ValueError(f"ModelRunner: max_nodes: expected at least 1, got {max_nodes}")
        shape = kv_shape(model)
        self.model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        config = model.config.get_text_config(decoder=True)
        self.vocab_size: int = config.vocab_size
        self.token_ids: Tensor | None = getattr(model, "token_ids", None)
        self.max_positions: int = getattr(config, "max_position_embeddings", max_len + max_nodes)
        self.max_len = max_len
        self.max_nodes = max_nodes
        self.cache = PagedKVCache(
            shape.num_layers,
            shape.num_kv_heads,
            shape.head_dim,
            capacity=max_len + max_nodes,
            page_size=page_size,
            dtype=self.dtype,
            device=self.device,
        )
        model.eval()
        model.set_attn_implementation(ATTENTION_NAME)
        self._forward_buffers = ForwardBuffers(max_nodes, self.device)
        self._commit_buffers = CommitBuffers(max_nodes, self.device)
        self._block_forward = BlockForward(model, self.cache, feature_layers)
        self._forward_block: Callable[..., tuple[Tensor, ...]] | None = None
        self.features: Tensor | None = None
        self.next_positions = self._forward_buffers.next_positions
        self.reset()

    def reset(self) -> None:
        """Forget context and block; the pool stays allocated."""
        self.context_len = 0
        self.block: list[int] = []
        self._positions: list[int] = []  # of the block's nodes

    @torch.inference_mode()
    def prefill(self, tokens: Sequence[int]) -> None:
        """Commit tokens as context, in chunks, without computing logits.

        Raises ValueError if the block is not empty, the context would outgrow `max_len`, or a token
        is outside the vocabulary. Context is then as before.
        """
        if self.block:
            raise ValueError(f"prefill: expected an empty block, got {len(self.block)} nodes")
        end = self.context_len + len(tokens)
        if end > self.max_len:
            raise ValueError(f"prefill: tokens: expected a context up to {self.max_len}, got {end}")
        self._check_tokens("prefill", tokens)
        ids = torch.tensor([list(tokens)], dtype=torch.int64, device=self.device)
        for start in range(self.context_len, end, PREFILL_CHUNK):
            stop = min(start + PREFILL_CHUNK, end)
            chunk = PrefillPass(self.cache, start, stop - start)
            self.model.base_model(
                input_ids=ids[:, start - self.context_len : stop - self.context_len],
                position_ids=torch.arange(start, stop, device=self.device)[None],
                attention_pass=chunk,
                use_cache=True,
                **{cache_argument(self.model): chunk},
            )
        self.context_len = end

    @torch.inference_mode()
    def forward(
        self,
        tokens: Sequence[int],
        parents: Sequence[int],
        *,
        logits_rows: int | None = None,
        token: Tensor | None = None,
    ) -> Tensor:
        """Append nodes to the block and compute them in one forward.

        tokens: the new nodes' tokens.
        parents: slot of each new node's parent in the block (new nodes count), -1 for a node that
            follows the context directly.
        logits_rows: compute logits of the last so many new nodes only; all by default.
        token: int32 [1] on the device, read in place of the first of `tokens`; where it is
            negative, 0 is.

        Returns logits [logits_rows, columns] in the model's dtype; on a GPU the next forward
        overwrites them. Raises ValueError for no or too many nodes, a parent that does not come
        before its child, or a token outside the vocabulary. Block and context are then as before.
        """
        block = [*self.block, *parents]
        self._check_forward(tokens, parents, block, logits_rows)
        positions = self._with_positions(parents)
        n, buffers = len(tokens), self._forward_buffers
        buffers.send(self.context_len, tokens, positions[-n:], block)
        if token is not None:
            torch.clamp(token, min=0, out=buffers.inputs.tokens[0, :1])
        inputs = buffers.inputs.head(n, n if logits_rows is None else logits_rows)
        if self._forward_block is None:
            self._forward_block = self._prepared(inputs)
        logits, *features = self._forward_block(*inputs)
        self.features = features[0] if features else None
        self.next_positions = buffers.next_positions[n - len(logits) : n]
        self.block, self._positions = block, positions
        return logits

    @torch.inference_mode()
    def commit(self, keep: Sequence[int], n_context: int) -> None:
        """Keep some nodes of the block, in place, and drop the others.

        keep: slots to keep, strictly increasing. The first `n_context` are a path from the root and
            become context; the others stay as the block, each with its parent.
        n_context: how many kept nodes become context.

        Raises ValueError if `keep` is not as said, or the context would outgrow `max_len`. Block
        and context are then as before.
        """
        if not 0 <= n_context <= len(keep):
            raise ValueError(
                f"commit: n_context: expected 0 to len(keep) = {len(keep)}, got {n_context}"
            )
        if self.context_len + n_context > self.max_len:
            raise ValueError(
                f"commit: n_context: expected a context up to {self.max_len}, "
                f"got {self.context_len + n_context}"
            )
        block = _remap_parents(self.block, keep, n_context)
        buffers = self._commit_buffers
        buffers.send(self.context_len, keep)
        self.cache.compact(buffers.context_lens, buffers.keep, buffers.keep_lens)
        self.context_len += n_context
        self.block, self._positions = block, [self._positions[slot] for slot in keep[n_context:]]

    def _with_positions(self, parents: Sequence[int]) -> list[int]:
        """Positions of the block's nodes and of new ones below `parents`."""
        positions = list(self._positions)
        for parent in parents:
            positions.append(positions[parent] + 1 if parent >= 0 else self.context_len)
        return positions

    def _prepared(self, inputs: BlockInputs) -> Callable[..., tuple[Tensor, ...]]:
        """The forward, captured or traced where that can be done."""
        if self.device.type == "cuda":
            return CapturedForward(
                self._block_forward, self._forward_buffers.inputs, CudaCapture(self.device)
            )
        pool = (*self.cache.k, *self.cache.v, self.cache.block_table)
        return traced(self._block_forward, tuple(inputs), pool) or self._block_forward

    def _check_forward(
        self,
        tokens: Sequence[int],
        parents: Sequence[int],
        block: Sequence[int],
        logits_rows: int | None,
    ) -> None:
        if not tokens or len(tokens) != len(parents):
            raise ValueError(
                f"forward: tokens, parents: expected the same length of at least 1, "
                f"got {len(tokens)} and {len(parents)}"
            )
        if len(block) > self.max_nodes:
            raise ValueError(
                f"forward: tokens: expected a block up to {self.max_nodes} nodes, got {len(block)}"
            )
        for slot, parent in enumerate(parents, len(self.block)):
            if not -1 <= parent < slot:
                raise ValueError(
                    f"forward: parents: expected -1 to {slot - 1} at slot {slot}, got {parent}"
                )
        if logits_rows is not None and not 1 <= logits_rows <= len(tokens):
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


def _remap_parents(block: Sequence[int], keep: Sequence[int], n_context: int) -> list[int]:
    """Parents of `keep[n_context:]` once `keep[:n_context]` is context.

    Raises ValueError if `keep` is not strictly increasing within the block, its first part is not a
    path from the root, or a later node's parent is neither kept nor the path's end.
    """
    if any(not low < high for low, high in pairwise([-1, *keep, len(block)])):
        raise ValueError(
            f"commit: keep: expected increasing slots below {len(block)}, got {list(keep)}"
        )
    root = -1
    for slot in keep[:n_context]:
        if block[slot] != root:
            raise ValueError(f"commit: keep: slot {slot} does not continue the path at {root}")
        root = slot
    place = {root: -1}
    for new, slot in enumerate(keep[n_context:]):
        if block[slot] not in place:
            raise ValueError(f"commit: keep: slot {slot} is kept without its parent")
        place[slot] = new
    return [place[block[slot]] for slot in keep[n_context:]]
