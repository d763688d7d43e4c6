"""Packed linear layers: the same product, and rows that do not depend on their company."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from specbranch.loading.prepack import PackedLinear, pack_linears

from . import tiny
from .single import Single

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def linear(out_features: int, in_features: int, bias: bool = False) -> nn.Linear:
    torch.manual_seed(out_features)
    return nn.Linear(in_features, out_features, bias=bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n_rows", [1, 3, 4, 9, 40])
def test_product(dtype, bias, n_rows):
    plain = linear(97, 64, bias).to(dtype)
    x = torch.randn(2, n_rows, 64, dtype=dtype)
    got = PackedLinear(plain)(x)
    assert got.shape == (2, n_rows, 97)
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(got, plain(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(576, 576), (192, 576), (1536, 576), (576, 1536), (97, 64)])
def test_a_row_does_not_depend_on_the_others_nor_on_threads(dtype, shape):
    packed = PackedLinear(linear(*shape).to(dtype))
    x = torch.randn(96, shape[1], dtype=dtype)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = packed(x)
        for torch_threads in (1, 2):
            torch.set_num_threads(torch_threads)
            for n_rows in (1, 2, 3, 4, 5, 8, 16, 17, 31, 32, 33, 40, 64, 65, 96):
                parts = torch.cat([packed(part) for part in x.split(n_rows)])
                assert torch.equal(parts, together), (n_rows, torch_threads)
    finally:
        torch.set_num_threads(threads)


def test_packing_a_model_keeps_its_logits_and_its_embedding():
    model = tiny.model("Gemma3")
    expected = tiny.logits(tiny.eager(model), [1, 2, 3, 4, 5])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    pack_linears(model)
    assert not any(type(module) is nn.Linear for module in model.modules())
    assert model.model.embed_tokens.weight.shape == (tiny.VOCAB_SIZE, 96)
    got = Single.of(model, max_len=8, max_nodes=8).forward([1, 2, 3, 4, 5], [*range(-1, 4)])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["Llama", "Gemma3"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_dict_is_that_of_the_plain_model(family, dtype):
    """To the bit, and a plain model takes it."""
    model = tiny.model(family, attention_bias=True).to(dtype)
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pack_linears(model)
    got = model.state_dict()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    tiny.model(family, attention_bias=True).load_state_dict(got)


def test_layers_with_hooks_stay():
    model = tiny.model("Llama")
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    pack_linears(model)
    assert type(model.model.layers[0].mlp.up_proj) is nn.Linear
    assert type(model.model.layers[0].mlp.gate_proj) is PackedLinear


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
def test_logits_of_a_node_are_bit_equal_whatever_rides_along(dtype, family):
    """So a token verified in a tree is decided on the logits of plain decoding."""
    model = tiny.model(family).to(dtype)
    pack_linears(model)
    runner = Single.of(model, max_len=64, max_nodes=48)
    runner.prefill(list(range(20)))
    chain = [runner.forward([token], [slot - 1])[0] for slot, token in enumerate([5, 6, 7])]
    runner.keep([], 0)
    alone = runner.forward([5, 6, 7], [-1, 0, 1])
    runner.keep([], 0)
    tree = runner.forward([5, *range(40), 6, 7], [-1, *[0] * 40, 0, 41])
    for depth, slot in enumerate([0, 41, 42]):
        assert torch.equal(chain[depth], alone[depth])
        assert torch.equal(tree[slot], alone[depth])
