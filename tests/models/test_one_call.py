"""A forward in one call is transformers' own, for every family that has it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from . import tiny
from .packed import CASES, packed, plain, quantized, runs_in_one_call
from .single import Single

TEXT = list(range(20, 60))
SIZES = {"max_len": 64, "max_nodes": 48, "page_size": 8}


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert (got.float() - wanted.float()).abs().max() <= tolerance * wanted.float().abs().max()


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case):
    """Of a chain after a prompt, a branch beside it, and what follows a commit."""
    model = plain(case)
    wanted = tiny.logits(tiny.eager(model), TEXT)
    branch = tiny.logits(tiny.eager(model), [*TEXT[:30], 7, 8])
    runner = Single.of(packed(case), **SIZES)
    runner.prefill(TEXT[:25])
    got = runner.forward([*TEXT[25:35], 7, 8], [*range(-1, 9), 4, 10])
    assert runs_in_one_call(runner)
    assert_close(got[:10], wanted[25:35])
    assert_close(got[10:], branch[30:])
    runner.keep(list(range(10)), 10)
    assert_close(runner.forward(TEXT[35:], [*range(-1, 4)]), wanted[35:])


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_transformers(case):
    model = plain(case)
    eager, text = tiny.eager(model), TEXT[:12]
    runner = Single.of(packed(case), **SIZES)
    runner.prefill(text[:-1])
    for _ in range(24):
        token = tiny.logits(eager, text)[-1].argmax().item()
        assert runner.forward([text[-1]], [len(runner.block) - 1])[0].argmax().item() == token
        text.append(token)


@pytest.mark.parametrize("case", CASES)
def test_bf16_is_as_near_as_transformers_own(case):
    wanted = tiny.logits(tiny.eager(plain(case)), TEXT)
    theirs = tiny.logits(tiny.eager(plain(case, torch.bfloat16)), TEXT)
    got = Single.of(packed(case, torch.bfloat16), **SIZES).forward(TEXT, [*range(-1, 39)])
    assert got.dtype == torch.bfloat16
    error = (got.float() - wanted).square().mean().sqrt()
    assert error < 1.3 * (theirs.float() - wanted).square().mean().sqrt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("case", ["Llama tied", "Qwen2", "Gemma3", "Llama biased"])
def test_weights_in_few_bits(case, bits, dtype):
    """Of every matrix, the embedding included where it is a plain one."""
    model = quantized(case, bits, dtype)
    runner = Single.of(model, **SIZES)
    got = runner.forward(TEXT, [*range(-1, 39)])
    assert runs_in_one_call(runner)
    eager = Single.of(model, prepare=lambda forward, *_: forward, **SIZES)
    wanted = eager.forward(TEXT, [*range(-1, 39)])
    assert got.dtype == wanted.dtype == dtype
    # An activation between two of its 8 bits' levels goes to one or the other.
    error = (got.float() - wanted.float()).square().mean().sqrt()
    assert (
        error < (0.1 if dtype is torch.bfloat16 else 0.03) * wanted.float().square().mean().sqrt()
    )


@pytest.mark.parametrize("case", ["Llama", "Gemma2"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_features_are_the_outputs_of_the_last_layers(case, layers):
    eager, outputs = tiny.eager(plain(case)), []
    for layer in eager.model.layers[-layers:]:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    tiny.logits(eager, TEXT)
    runner = Single.of(packed(case), feature_layers=layers, **SIZES)
    runner.prefill(TEXT[:10])
    runner.forward(TEXT[10:], [*range(-1, 29)], logits_rows=1)
    assert runs_in_one_call(runner)
    assert_close(runner.runner.features, torch.cat(outputs, dim=-1)[0, 10:])


class Wrapped(nn.Module):
    """What an adapter puts in the place of a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 2


def with_hook(model: nn.Module) -> None:
    model.model.layers[1].mlp.register_forward_hook(lambda layer, inputs, output: output * 2)


def with_pre_hook(model: nn.Module) -> None:
    model.model.layers[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2,))


def with_adapter(model: nn.Module) -> None:
    attention = model.model.layers[2].self_attn
    attention.v_proj = Wrapped(attention.v_proj)


def with_another_forward(model: nn.Module) -> None:
    mlp = model.model.layers[0].mlp
    written = mlp.forward
    mlp.forward = lambda x: written(x) * 2


def with_another_activation(model: nn.Module) -> None:
    model.model.layers[0].mlp.act_fn = nn.ReLU()


def with_another_norm(model: nn.Module) -> None:
    norm = model.model.norm
    norm.weight = nn.Parameter(norm.weight * 2, requires_grad=False)


def with_another_head(model: nn.Module) -> None:
    model.lm_head = packed("Llama tied").lm_head


CHANGES = {
    with_hook: False,
    with_pre_hook: False,
    with_adapter: False,
    with_another_forward: False,
    with_another_activation: False,
    with_another_norm: True,
    with_another_head: True,
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_is_put_on_a_model_counts_from_the_next_request_on(change):
    """In the prompt too, which transformers reads: the model it leaves is served as it is."""
    model = packed("Llama")
    runner = Single.of(model, max_requests=2, **SIZES)
    before = runner.forward(TEXT, [*range(-1, 39)])
    change(model)
    again = Single(runner.runner)
    got = again.forward(TEXT, [*range(-1, 39)])
    assert runs_in_one_call(again) == CHANGES[change]
    wanted = Single.of(model, prepare=lambda forward, *_: forward, **SIZES)
    assert_close(got, wanted.forward(TEXT, [*range(-1, 39)]))
    assert not torch.allclose(got, before, rtol=1e-2, atol=1e-2)


def test_what_is_taken_off_again_counts_too():
    model = packed("Llama")
    hook = model.model.norm.register_forward_hook(lambda layer, inputs, output: output * 2)
    runner = Single.of(model, max_requests=2, **SIZES)
    runner.forward(TEXT, [*range(-1, 39)])
    assert not runs_in_one_call(runner)
    hook.remove()
    again = Single(runner.runner)
    again.forward(TEXT, [*range(-1, 39)])
    assert runs_in_one_call(again)


def test_weights_written_in_place_count_at_once():
    model = packed("Llama")
    runner = Single.of(model, **SIZES)
    before = runner.forward([5], [-1])
    model.model.norm.weight.mul_(2)
    torch.testing.assert_close(runner.forward([5], [-1]), before * 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_models_of_plain_linear_layers_run_as_transformers_wrote_them(dtype):
    runner = Single.of(tiny.model("Llama").to(dtype), **SIZES)
    runner.forward([5], [-1])
    assert not runs_in_one_call(runner)


def test_a_class_of_the_users_own_runs_as_it_is():
    model = packed("Llama")
    norm = model.model.norm

    class Doubled(type(norm)):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    norm.__class__ = Doubled
    runner = Single.of(model, **SIZES)
    got = runner.forward([5], [-1])
    assert not runs_in_one_call(runner)
    assert_close(got, 2 * Single.of(packed("Llama"), **SIZES).forward([5], [-1]))
