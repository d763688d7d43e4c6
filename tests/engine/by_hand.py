"""Rules of a request's text and plain decoding under them, written out token by token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from specbranch import reference
from specbranch.models.sampling_rows import SamplingRows
from specbranch.sampling import SamplingParams


def ruled(
    logits: Tensor,
    prompt: Sequence[int],
    output: Sequence[int],
    params: SamplingParams,
    ends: Collection[int] = (),
) -> Tensor:
    """Logits [V] of the token after `output`, float64."""
    logits = logits.double().clone()
    for token, bias in params.logit_bias.items():
        logits[token] += bias
    if len(output) < params.min_new_tokens:
        for token in ends:
            logits[token] = -math.inf
    for token in {*prompt, *output}:
        x = float(logits[token])
        penalty = params.repetition_penalty
        logits[token] = x / penalty if x > 0 else x * penalty
    for token, count in Counter(output).items():
        logits[token] -= count * params.frequency_penalty + params.presence_penalty
    return logits


def decoded(
    model: torch.nn.Module, prompt: Sequence[int], params: SamplingParams, ends: Sequence[int] = ()
) -> tuple[list[int], list[Tensor]]:
    """The text, and the model's own logits [V] before each of its tokens."""
    filters = SamplingRows(1, torch.device("cpu")).send([(params, [params.seed])])
    output: list[int] = []
    seen = []
    while len(output) < params.max_new_tokens and not (output and output[-1] in ends):
        text = torch.tensor([[*prompt, *output]])
        with torch.inference_mode():
            seen.append(model(text).logits[0, -1])
        logits = ruled(seen[-1], prompt, output, params, ends)
        position = torch.tensor([text.shape[1]], dtype=torch.int32)
        output.append(int(reference.sample(logits[None], *filters, position)))
    return output, seen
