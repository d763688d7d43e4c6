"""What H-RAD looks at: the target where it stopped, and the draft below the token chosen there.

Of the target: the outputs of its last four decoder layers at the last accepted token, then the
input embedding of the new token (arXiv 2506.01979, section on hybrid drafting). Of the draft: its
certainty along the block that lives on below the new token, as far as that was drafted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch.models.block import BlockRows, Keep
from specbranch.models.runner import ModelRunner
from specbranch.models.transfers import sent

if TYPE_CHECKING:
    from specbranch._C import Tree

FEATURE_LAYERS = 4

Certainty = tuple[float, float]
"""max_prob and entropy (nats) of a law."""


def surviving_block(tree: Tree, winner: int, gamma: int) -> list[Certainty]:
    """Of the laws that the draft's chain below the new token was guessed from, gamma at most.

    winner: the new token's node in a tree that is not re-rooted yet, -1 where it has none.
    """
    if winner < 0:
        return []
    chain = tree.main_line(winner)[:gamma]
    laws = zip(tree.max_prob[chain].tolist(), tree.entropy[chain].tolist(), strict=True)
    return [law for law in laws if law[0] > 0]  # 0 where nothing was drafted


def padded(blocks: Sequence[Sequence[Certainty]], gamma: int) -> Tensor:
    """float32 [n, gamma, 2], zero behind what was drafted."""
    undrafted = [(0.0, 0.0)] * gamma
    return torch.tensor([[*block, *undrafted[len(block) :]] for block in blocks])


def text_features(runner: ModelRunner, prompt: Sequence[int], text: Sequence[int]) -> Tensor:
    """Features of the token before each token of `text`, as decoding would see them.

    One teacher-forced pass, in as few forwards as the runner's block allows.

    runner: of the target, with feature layers and room for a request.
    prompt, text: token ids, each at least one.

    Returns [len(text), feature_layers * hidden] in the model's dtype, on its device.
    """
    block = runner.open()
    try:
        runner.prefill(block, prompt[:-1])
        before = [prompt[-1], *text[:-1]]
        rows = []
        for start in range(0, len(before), runner.max_nodes):
            chunk = before[start : start + runner.max_nodes]
            chain = range(len(chunk))
            runner.forward([BlockRows(block, chunk, [slot - 1 for slot in chain], 1)])
            assert runner.features is not None
            rows.append(runner.features.clone())
            runner.keep([Keep(block, chain, len(chunk))])
    finally:
        runner.close(block)
    return torch.cat(rows)


@torch.inference_mode()
def with_embedding(model: PreTrainedModel, features: Tensor, tokens: Sequence[int]) -> Tensor:
    """The classifier's input [n, F + hidden]: features [n, F], each with its new token's embedding.

    model: the target, whose embedding it is.
    """
    ids = sent(tokens, features.device)
    return torch.cat([features, model.get_input_embeddings()(ids)], dim=-1)
