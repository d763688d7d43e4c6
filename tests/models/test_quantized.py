"""Layers in few bits, models made of them, and drafts from their target's own weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from specbranch.loading.packing import quantize
from specbranch.loading.prepack import PackedLinear, pack_linears
from specbranch.loading.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    body_bits,
    describe_weights,
    in_bits,
    quantize_linears,
    quantize_model,
    quantized_copy,
)

from . import tiny
from .single import Single

TOKENS = [5, 3, 88, 20, 61, 61, 7]


def layer(inputs: int = 96, outputs: int = 40, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias).requires_grad_(False)


def dequantized(model: nn.Module) -> nn.Module:
    """A copy that computes the same in ordinary numbers."""
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, QuantizedLinear):
            plain.set_submodule(name, module.plain(torch.float32))
        elif isinstance(module, QuantizedEmbedding):
            table = module.rows(torch.arange(module.num_embeddings))
            plain.set_submodule(name, nn.Embedding.from_pretrained(table))
    return plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_layer_multiplies_by_what_it_says(bits, dtype):
    plain = layer()
    quantized = in_bits(plain, bits)
    x = torch.randn(2, 5, 96)
    got = quantized(x.to(dtype))
    assert got.dtype is dtype
    assert got.shape == (2, 5, 40)
    expected = quantized.plain(torch.float32)(x)
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.05)
    error = (expected - plain(x)).norm() / plain(x).norm()
    assert 0.0005 < error < {4: 0.12, 8: 0.01}[bits]


@pytest.mark.parametrize("bits", [4, 8])
def test_layers_and_embeddings_have_the_same_rows(bits):
    plain = layer(outputs=50)
    weight = quantize(plain.weight, bits)
    ids = torch.tensor([[3, 49], [0, 3]])
    found = QuantizedEmbedding(weight, 50, torch.bfloat16)(ids)
    expected = QuantizedLinear(weight, 50).rows(ids.flatten()).view(2, 2, 96)
    assert torch.equal(found, expected.bfloat16())


def test_state_dicts_hold_the_packed_weights():
    ours, other = in_bits(layer(), 4), in_bits(layer(), 4)
    other.weight.zero_()
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other(torch.ones(1, 96)), ours(torch.ones(1, 96)))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_computes_what_its_dequantised_weights_say(family, bits):
    model = tiny.model(family)
    before = tiny.logits(tiny.eager(model), TOKENS)
    quantize_model(model, bits)
    assert body_bits(model) == bits
    assert model.get_output_embeddings().bits == 8
    got = Single.of(model, max_len=16, max_nodes=8).forward(TOKENS, [*range(-1, len(TOKENS) - 1)])
    for expected, least in (
        (tiny.logits(tiny.eager(dequantized(model)), TOKENS), 0.99),
        (before, 0.8),
    ):
        assert torch.cosine_similarity(got, expected, dim=-1).min() > least


@pytest.mark.parametrize("tied", [True, False])
def test_no_other_copy_of_a_matrix_stays(tied):
    model = tiny.model("Llama", tie_word_embeddings=tied)
    quantize_model(model, 4)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert (embedding.weight.data_ptr() == head.weight.data_ptr()) == tied
    assert all(parameter.dim() == 1 for parameter in model.parameters())


def test_fewer_bits_are_kept_and_more_are_rounded():
    four, eight = (in_bits(layer(), bits) for bits in (4, 8))
    assert in_bits(four, 8) is four
    assert in_bits(eight, 8) is eight
    assert in_bits(eight, 4).bits == 4


def test_layers_of_odd_width_stay_as_they_are():
    model = tiny.model("Llama", intermediate_size=120)
    quantize_linears(model, 4)
    mlp = model.model.layers[0].mlp
    assert type(mlp.down_proj) is nn.Linear  # 120 inputs: no whole groups
    assert isinstance(mlp.up_proj, QuantizedLinear)
    assert body_bits(model) is None
    assert describe_weights(model) == "3 layers in float32, 18 layers in q4, 1 layers in q8"


def test_a_model_of_odd_width_is_refused():
    model = tiny.model(
        "Llama", hidden_size=24, intermediate_size=40, num_attention_heads=3, head_dim=8
    )
    with pytest.raises(
        ValueError, match="q4: expected layers of a multiple of 32 inputs, got Llama"
    ):
        quantize_model(model, 4)


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Gemma3"])
def test_draft_resembles_its_target_and_leaves_it_alone(kind, family):
    target = tiny.model(family)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    tokens = list(range(30))
    expected = tiny.logits(tiny.eager(target), tokens)
    draft = quantized_copy(target, kind)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(type(module) is nn.Linear for module in draft.modules())
    runner = Single.of(draft, max_len=32, max_nodes=8)
    runner.prefill(tokens[:-8])
    got = runner.forward(tokens[-8:], [*range(-1, 7)])
    similarity = torch.cosine_similarity(got, expected[-8:], dim=-1)
    assert similarity.min() > (0.8 if kind == "int4" else 0.99)


def test_draft_shares_all_but_the_matrices():
    target = tiny.model("Llama")
    draft = quantized_copy(target, "int4")
    assert draft.get_input_embeddings() is target.get_input_embeddings()
    ours = {parameter.data_ptr() for parameter in target.parameters()}
    assert all(parameter.data_ptr() in ours for parameter in draft.parameters())


def test_target_and_draft_run_side_by_side():
    """Each on its own attention setting and its own pages."""
    target = tiny.model("Mistral")
    eager = tiny.eager(target)
    draft = quantized_copy(target, "int4")
    pack_linears(target)
    pack_linears(draft)
    assert isinstance(target.lm_head, PackedLinear)
    runners = [Single.of(model, max_len=16, max_nodes=4) for model in (target, draft)]
    for runner in runners:
        runner.prefill([1, 2, 3])
    got, _ = (runner.forward([4], [-1]) for runner in runners)
    torch.testing.assert_close(got, tiny.logits(eager, [1, 2, 3, 4])[3:], rtol=1e-4, atol=1e-4)


def test_drafts_that_cannot_be():
    target = tiny.model("Llama")
    with pytest.raises(ValueError, match="expected self:int4 or self:int8, got self:int2"):
        quantized_copy(target, "int2")
    quantize_model(target, 4)
    for kind in ("int4", "int8"):
        with pytest.raises(
            ValueError, match=rf"got self:{kind} of a target that has 4 bits itself"
        ):
            quantized_copy(target, kind)
    target = tiny.model("Llama")
    quantize_model(target, 8)
    assert body_bits(quantized_copy(target, "int4")) == 4
