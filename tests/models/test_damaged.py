"""Files that are no model: which one it was, and what was wrong, as a ValueError."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MambaConfig, MambaForCausalLM

from specbranch.hrad.model import load_classifier
from specbranch.loading import load_pair
from tests.engine import tiny

from .test_gguf import write

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_pair(tmp_path_factory.mktemp("good"))[0]


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def refused(target: Path, draft: Path | str = "self:int8", role: str = "target") -> str:
    damaged = target if role == "target" else draft
    with pytest.raises(ValueError, match=f"^{role}: cannot load '{damaged}'") as caught:
        load_pair(target, draft)
    message = str(caught.value)
    assert len(message) < 600
    return message


@pytest.mark.parametrize("share", [0, 4, 100, 0.5, 0.999])
def test_weights_that_were_cut(folder: Path, good: Path, share: float) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole)) if 0 < share < 1 else int(share)])
    refused(folder)
    refused(good, folder, "draft")


@pytest.mark.parametrize("content", [LFS_POINTER, b"<html>", pickle.dumps({}), b"\xff" * 4096])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_other_files_in_their_place(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    refused(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_files_that_are_not_there(folder: Path, file: str) -> None:
    (folder / file).unlink()
    refused(folder)


def test_sizes_that_do_not_fit(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    refused(folder)


def test_weights_that_lack_a_part_are_not_made_up(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    assert "got none for model.layers.1.mlp.up_proj.weight" in refused(folder)


def test_pickles_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refused(folder)


def test_code_of_a_models_own_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    own = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")
    assert "The repository" in refused(folder)
    assert not (folder / "ran").exists()


def test_a_model_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=1)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert "decoder-only model" in refused(tmp_path)


@pytest.mark.parametrize("config", ["{}", "{", '{"target": "x", "layers": [99]}', "[]", "3"])
def test_drafts_that_are_none(folder: Path, good: Path, config: str) -> None:
    (folder / "draft.json").write_text(config)
    shutil.copy(good / "model.safetensors", folder / "draft.safetensors")
    refused(good, folder, "draft")


def test_a_gguf_cut_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf", "Q8_0", "Q8_0").read_bytes()
    cut = tmp_path / "cut.gguf"
    steps = [*range(0, 64, 4), *range(64, len(whole), len(whole) // 40), len(whole) - 1]
    for end in steps:
        cut.write_bytes(whole[:end])
        refused(cut)


@pytest.mark.parametrize(
    "content", [b"", LFS_POINTER, b"GGUF\x03\0\0\0" + b"\xff" * 16, b"GGUF" * 99]
)
def test_other_files_called_gguf(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    refused(file)


def test_classifiers_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "hrad.safetensors"
    save_file({"mean": torch.zeros(1)}, tmp_path / "other", {"hrad": json.dumps({"dims": []})})
    for content in (b"", LFS_POINTER, (tmp_path / "other").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"hrad: expected a file of `hrad train`, got .*hrad\.s"
        ):
            load_classifier(file)
