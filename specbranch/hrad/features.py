"""What H-RAD looks at: the target's hidden states where it stopped, and the token it chose there.

Input of the classifier: the outputs of the target's last four decoder layers at the last accepted
token, then the input embedding of the new token (arXiv 2506.01979, section on hybrid drafting).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch.models.block import BlockRows, Keep
from specbranch.models.runner import ModelRunner
from specbranch.models.transfers import sent

FEATURE_LAYERS = 4


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
