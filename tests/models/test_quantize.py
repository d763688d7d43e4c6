"""int4 and int8 layers against dequantised products, and the draft made of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from specbranch.loading.prepack import PackedLinear, can_pack, pack_linears
from specbranch.loading.quantize import GROUP_SIZE, Int4Linear, Int8Linear, quantized_draft

from . import tiny
from .single import Single

pytestmark = pytest.mark.skipif(
    not can_pack(torch.bfloat16), reason="this torch has no oneDNN for bf16 on this CPU"
)
SHAPES = [(16, 32), (48, 96), (576, 1536)]


def dequantized(layer: nn.Module) -> torch.Tensor:
    """The weights that the kernel multiplies by, ``[out, in]``."""
    identity = torch.eye(layer.in_features, dtype=torch.bfloat16)
    return layer(identity).float().t()


def layer_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data.copy_(weight)
    if bias is not None:
        linear.bias.data.copy_(bias)
    return linear


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_weights_are_within_half_a_step(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    groups = weight.view(shape[0], -1, GROUP_SIZE)
    step = (groups.amax(-1) - groups.amin(-1)) / 15
    error = (dequantized(Int4Linear(layer_of(weight))) - weight).abs().view_as(groups)
    # Half a step, and bf16 rounding of the step, the offset and the product.
    bound = 0.5 * step + 2**-8 * groups.abs().amax(-1) * 2 + 2**-8 * 8 * step
    assert (error <= bound[..., None]).all()
    assert error.mean() > 0.2 * step.mean()  # it is four bits indeed


def test_int4_keeps_weights_that_lie_on_its_levels():
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (48, 3, GROUP_SIZE))
    levels[..., 0], levels[..., 1] = 0, 15
    weight = ((levels - 8) * 0.125 + 0.5).view(48, -1)
    torch.testing.assert_close(dequantized(Int4Linear(layer_of(weight))), weight, rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_weights_are_within_half_a_step(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    largest = weight.abs().amax(1, keepdim=True)
    error = (dequantized(Int8Linear(layer_of(weight))) - weight).abs()
    assert (error <= largest * (0.5 / 127 + 2**-7)).all()


@pytest.mark.parametrize("quantized", [Int4Linear, Int8Linear])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 8, 33])
def test_products(quantized, n_rows):
    torch.manual_seed(n_rows)
    layer = quantized(layer_of(torch.randn(48, 96)))
    x = torch.randn(2, n_rows, 96, dtype=torch.bfloat16)
    expected = x.float() @ dequantized(layer).t()
    got = layer(x)
    assert got.dtype is torch.bfloat16
    assert got.shape == (2, n_rows, 48)
    torch.testing.assert_close(got.float(), expected, rtol=2e-2, atol=0.15)


@pytest.mark.parametrize("quantized", [Int4Linear, Int8Linear])
def test_bias(quantized):
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 96), torch.randn(48) * 5
    x = torch.randn(3, 96, dtype=torch.bfloat16)
    got = quantized(layer_of(weight, bias))(x)
    assert torch.equal(got, quantized(layer_of(weight))(x) + bias.bfloat16())


@pytest.mark.parametrize("quantized", [Int4Linear, Int8Linear])
def test_all_zero_weights(quantized):
    assert (dequantized(quantized(layer_of(torch.zeros(16, 32)))) == 0).all()


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Gemma3"])
def test_draft_resembles_its_target_and_leaves_it_alone(kind, family):
    target = tiny.model(family)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    tokens = list(range(30))
    expected = tiny.logits(tiny.eager(target), tokens)
    draft = quantized_draft(target, kind)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert draft.dtype is torch.bfloat16
    assert isinstance(draft.lm_head, PackedLinear)
    assert not any(type(module) is nn.Linear for module in draft.modules())
    runner = Single.of(draft, max_len=32, max_nodes=8)
    assert runner.runner.pool.k[0].dtype is torch.bfloat16
    runner.prefill(tokens[:-8])
    got = runner.forward(tokens[-8:], [*range(-1, 7)]).float()
    similarity = torch.cosine_similarity(got, expected[-8:], dim=-1)
    assert similarity.min() > (0.8 if kind == "int4" else 0.99)


def test_draft_borrows_the_embedding():
    target = tiny.model("Llama")
    draft = quantized_draft(target, "int4")
    storages = {value.data_ptr() for value in draft.parameters()}
    assert target.model.embed_tokens.weight.data_ptr() not in storages
    target.model.embed_tokens.weight.data[3] = 7.0
    assert (draft.get_input_embeddings()(torch.tensor([3])) == 7.0).all()


def test_target_and_draft_run_side_by_side():
    """Each on its own attention setting and its own pages."""
    target = tiny.model("Mistral")
    eager = tiny.eager(target)
    draft = quantized_draft(target, "int4")
    pack_linears(target)
    runners = [Single.of(model, max_len=16, max_nodes=4) for model in (target, draft)]
    for runner in runners:
        runner.prefill([1, 2, 3])
    got, _ = (runner.forward([4], [-1]) for runner in runners)
    torch.testing.assert_close(got, tiny.logits(eager, [1, 2, 3, 4])[3:], rtol=1e-4, atol=1e-4)


def test_layers_of_odd_width_are_kept_in_bf16():
    draft = quantized_draft(tiny.model("Llama", intermediate_size=120), "int4")
    mlp = draft.model.layers[0].mlp
    assert isinstance(mlp.down_proj, PackedLinear)  # 120 inputs: no whole groups
    assert isinstance(mlp.up_proj, PackedLinear)  # 120 outputs: not by sixteens
    assert isinstance(draft.model.layers[0].self_attn.q_proj, Int4Linear)


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="expected self:int4 or self:int8, got self:int2"):
        quantized_draft(tiny.model("Llama"), "int2")
