"""The whole forward of a model as one call into C++, which holds no interpreter lock.

Two models that run at the same time in one process share that lock, and a forward of 30 layers by
transformers makes a thousand short calls that each give it up and want it back.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from specbranch.models import skeleton
from specbranch.models.block_forward import BlockForward, BlockInputs


def in_one_call(forward: BlockForward, positions: int) -> Callable[..., tuple[Tensor, ...]] | None:
    """What `forward` does, or None if its model is not of the common skeleton.

    positions: how many a text can have. What is put on the model later is not seen, but for new
    values in tensors that are not packed.
    """
    decoder = skeleton.decoder(forward.model, forward.pool, positions)
    if decoder is None:
        return None
    like = forward.pool.k[0]
    columns = forward.model.get_output_embeddings().out_features
    width = forward.num_feature_layers * forward.model.config.hidden_size

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        block = BlockInputs(*inputs)
        logits = like.new_empty(len(block.logits_rows), columns)
        features = like.new_empty(block.tokens.shape[1], width) if width else None
        decoder.run(*block, logits, features)
        return (logits,) if features is None else (logits, features)

    return run
