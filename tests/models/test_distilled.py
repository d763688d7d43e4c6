"""Drafts cut out of their target: what they share, how they are stored, and who may load them."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from specbranch.loading import load_pair
from specbranch.loading.distilled import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    cut_draft,
    is_distilled,
    load_draft,
    save_draft,
    trained_modules,
)
from specbranch.loading.quantized import body_bits, quantize_model

from . import tiny
from .single import Single
from .test_pair import tokenizer

CPU = torch.device("cpu")
TOKENS = [5, 3, 88, 20]
TOKEN_IDS = torch.tensor([90, 4, 17, 3, 60, 61], dtype=torch.int32)


def trained(target, layers=(0, 2)):
    """A draft whose own weights are not the target's any more."""
    draft = cut_draft(target, layers, TOKEN_IDS)
    torch.manual_seed(1)
    with torch.no_grad():
        for module in trained_modules(draft).values():
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight) * 0.1).copy_(weight.bfloat16())
    return draft


@pytest.fixture
def target():
    return tiny.model("Llama")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_all_layers_and_some_tokens_say_what_the_target_says(family):
    target = tiny.model(family)
    draft = cut_draft(target, [0, 1, 2], TOKEN_IDS)
    expected = tiny.logits(tiny.eager(target), TOKENS)[:, TOKEN_IDS.long()]
    torch.testing.assert_close(tiny.logits(tiny.eager(draft.model), TOKENS), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_some_layers_run_on_our_cache(family):
    draft = cut_draft(tiny.model(family), [2, 0], TOKEN_IDS)
    expected = tiny.logits(tiny.eager(draft.model), TOKENS)
    runner = Single.of(draft.model, max_len=16, max_nodes=4)
    assert torch.equal(runner.runner.token_ids, TOKEN_IDS)
    assert runner.runner.vocab_size == tiny.VOCAB_SIZE
    torch.testing.assert_close(
        runner.forward(TOKENS, [-1, 0, 1, 2]), expected, rtol=1e-4, atol=1e-4
    )


def test_models_with_their_layers_elsewhere_are_refused():
    with pytest.raises(ValueError, match="target: expected layers in `layers`, got OPTModel"):
        cut_draft(tiny.model("OPT", ffn_dim=32, word_embed_proj_dim=96), [0], TOKEN_IDS)


def test_the_embedding_is_the_targets_and_the_rest_is_not(target):
    before = copy.deepcopy(target.state_dict())
    draft = trained(target)
    assert draft.model.get_input_embeddings() is target.get_input_embeddings()
    assert target.config.num_hidden_layers == 3
    assert draft.model.config.num_hidden_layers == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "token_ids", "message"),
    [
        ([], TOKEN_IDS, r"layers: expected distinct numbers below 3, got \[\]"),
        ([0, 3], TOKEN_IDS, r"layers: .* got \[0, 3\]"),
        ([1, 1], TOKEN_IDS, r"layers: .* got \[1, 1\]"),
        ([0], torch.tensor([4, 97]), r"token_ids: expected distinct numbers below 97"),
    ],
)
def test_layers_and_tokens_that_are_not_there(target, layers, token_ids, message):
    with pytest.raises(ValueError, match=message):
        cut_draft(target, layers, token_ids)


def test_a_stored_draft_says_what_it_said(target, tmp_path):
    draft = trained(target)
    with torch.inference_mode():
        hidden = tiny.eager(draft.model).base_model(torch.tensor([TOKENS])).last_hidden_state[0]
        expected = draft.model.get_output_embeddings()(draft.readout(hidden))
    save_draft(draft, target, "some target", tmp_path)
    assert is_distilled(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    loaded = load_draft(tmp_path, target, CPU)
    assert torch.equal(loaded.token_ids, TOKEN_IDS)
    torch.testing.assert_close(
        tiny.logits(tiny.eager(loaded), TOKENS), expected, rtol=1e-4, atol=1e-4
    )


def test_neither_embedding_nor_head_is_stored(target, tmp_path):
    draft = trained(target)
    save_draft(draft, target, "some target", tmp_path)
    own = sum(p.numel() for module in trained_modules(draft).values() for p in module.parameters())
    assert (tmp_path / WEIGHTS_FILE).stat().st_size < 2 * own + 10_000


def test_in_8_bits_it_takes_half_and_says_nearly_the_same(target, tmp_path):
    draft = trained(target)
    for bits in (8, 16):
        save_draft(draft, target, "some target", tmp_path / str(bits), bits)
    size8, size16 = ((tmp_path / bits / WEIGHTS_FILE).stat().st_size for bits in ("8", "16"))
    assert size8 < 0.6 * size16 + 10_000
    loaded, exact = (load_draft(tmp_path / bits, target, CPU) for bits in ("8", "16"))
    assert loaded.dtype is target.dtype
    for ours, theirs in zip(loaded.parameters(), exact.parameters(), strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()
    ours, theirs = (tiny.logits(tiny.eager(each), TOKENS) for each in (loaded, exact))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.1 * float(theirs.std()))
    assert not torch.equal(ours, theirs)


def test_other_bits_are_refused(target, tmp_path):
    with pytest.raises(ValueError, match="bits: expected 8 or 16, got 4"):
        save_draft(trained(target), target, "some target", tmp_path, 4)
    save_draft(trained(target), target, "some target", tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {"bits": 2}))
    with pytest.raises(ValueError, match="bits: expected 8 or 16, got 2"):
        load_draft(tmp_path, target, CPU)


def test_a_draft_that_does_not_say_its_bits_has_16(target, tmp_path):
    save_draft(trained(target), target, "some target", tmp_path)
    expected = load_draft(tmp_path, target, CPU).state_dict()
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert config.pop("bits") == 16
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    loaded = load_draft(tmp_path, target, CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_another_target_is_refused(target, tmp_path):
    save_draft(trained(target), target, "some target", tmp_path)
    wider = tiny.model("Llama", hidden_size=192)
    other = copy.deepcopy(target)
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(0.1)
    for model in (wider, other, tiny.model("Qwen2", vocab_size=99)):
        with pytest.raises(ValueError, match=r"draft: expected .* distilled from, some target"):
            load_draft(tmp_path, model, CPU)


def test_the_target_in_another_dtype_is_the_same_target(target, tmp_path):
    save_draft(trained(target), target, "some target", tmp_path)
    half = copy.deepcopy(target).to(torch.float16)
    assert load_draft(tmp_path, half, CPU).dtype is torch.float16


@pytest.mark.parametrize("bits", [8, 16])
def test_a_draft_of_a_target_in_few_bits(target, tmp_path, bits):
    save_draft(trained(target), target, "some target", tmp_path, bits)
    plain = load_draft(tmp_path, target, CPU)
    quantize_model(target, 4)
    draft = load_draft(tmp_path, target, CPU)
    assert draft.get_input_embeddings() is target.get_input_embeddings()
    for name, value in draft.model.layers.state_dict().items():
        assert torch.equal(value, plain.model.layers.state_dict()[name]), name
    expected, found = (tiny.logits(tiny.eager(each), TOKENS) for each in (plain, draft))
    assert torch.cosine_similarity(found, expected, dim=-1).min() > 0.99


@pytest.mark.parametrize(("bits", "weights"), [(8, None), (16, None), (16, "q4"), (8, "plain")])
def test_weights_of_a_distilled_draft(target, tmp_path, bits, weights):
    target.save_pretrained(tmp_path / "target")
    tokenizer(bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path / "target")
    save_draft(trained(target), target, "some target", tmp_path / "draft", bits)
    pair = load_pair(str(tmp_path / "target"), str(tmp_path / "draft"), draft_weights=weights)
    kind = {None: "q8" if bits == 8 else None, "q4": "q4"}.get(weights)
    assert body_bits(pair.draft) == (None if kind is None else int(kind[1]))
    assert pair.draft.get_input_embeddings() is pair.target.get_input_embeddings()


def test_a_pair_of_a_target_and_its_distilled_draft(target, tmp_path):
    target.save_pretrained(tmp_path / "target")
    tokenizer(bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path / "target")
    save_draft(trained(target), target, "some target", tmp_path / "draft")
    pair = load_pair(str(tmp_path / "target"), str(tmp_path / "draft"), dtype="bfloat16")
    assert torch.equal(pair.draft.token_ids, TOKEN_IDS)
    assert pair.draft.dtype is torch.bfloat16
    assert pair.draft.get_input_embeddings() is pair.target.get_input_embeddings()
