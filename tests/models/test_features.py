"""Hidden states of the last decoder layers, out of the same forward as the logits."""

from __future__ import annotations

import pytest
import torch

from . import tiny
from .single import Single

TOKENS = list(range(20, 34))
LAYERS = 2
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}


def make_runner(model, feature_layers: int = LAYERS, **options) -> Single:
    sizes = {"max_len": 64, "max_nodes": 16, "page_size": 8}
    return Single.of(model, feature_layers=feature_layers, **sizes, **options)


def eager_features(model, tokens: list[int]) -> torch.Tensor:
    """Outputs of the last layers in one full forward of transformers; [n, LAYERS * hidden]."""
    eager, outputs = tiny.eager(model), []
    for layer in eager.model.layers[-LAYERS:]:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    tiny.logits(eager, tokens)
    return torch.cat(outputs, dim=-1)[0]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_features_are_the_outputs_of_the_last_layers(family):
    """Each row's own, whatever branch it is on, in the recorded forward and in its replays."""
    model = tiny.model(family)
    left, right = [*TOKENS, 3, 4], [*TOKENS, 5]
    wanted = eager_features(model, left), eager_features(model, right)
    runner = make_runner(model)
    for _ in range(2):
        runner.reset()
        runner.prefill(TOKENS)
        runner.forward([3, 5], [-1, -1])
        torch.testing.assert_close(runner.runner.features[0], wanted[0][-2], **TOLERANCE)
        torch.testing.assert_close(runner.runner.features[1], wanted[1][-1], **TOLERANCE)
        runner.forward([4], [0], logits_rows=1)
        torch.testing.assert_close(runner.runner.features, wanted[0][-1:], **TOLERANCE)


def test_every_row_has_features_where_few_have_logits():
    model = tiny.model("Llama")
    runner = make_runner(model)
    logits = runner.forward(TOKENS, [*range(-1, len(TOKENS) - 1)], logits_rows=1)
    assert logits.shape == (1, tiny.VOCAB_SIZE)
    torch.testing.assert_close(runner.runner.features, eager_features(model, TOKENS), **TOLERANCE)


def test_features_change_no_logit_and_cost_nothing_when_off():
    model = tiny.model("Qwen3")
    plain, featured = make_runner(model, 0), make_runner(model)
    for runner in (plain, featured):
        runner.prefill(TOKENS)
    tokens, parents = [3, 5, 8], [-1, 0, 0]
    assert torch.equal(plain.forward(tokens, parents), featured.forward(tokens, parents))
    assert plain.runner.features is None


def test_no_hook_stays_on_the_model():
    model = tiny.model("Llama")
    runner = make_runner(model, prepare=lambda forward, *_: forward)
    runner.forward([1], [-1])
    assert runner.runner.features.shape == (1, LAYERS * model.config.hidden_size)
    assert not any(layer._forward_hooks for layer in model.model.layers)


@pytest.mark.parametrize("feature_layers", [-1, 4])
def test_more_layers_than_there_are_is_refused(feature_layers):
    with pytest.raises(ValueError, match=f"expected 0 to 3 layers of .*, got {feature_layers}"):
        make_runner(tiny.model("Llama"), feature_layers)
