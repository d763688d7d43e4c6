"""Weights that move to huge pages: the same numbers, shared as before, and freed with the model."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from specbranch.loading.huge_pages import move_to_huge_pages
from specbranch.loading.prepack import pack_linears
from specbranch.loading.quantized import quantize_model, quantized_copy

from . import tiny
from .single import Single

pytestmark = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system hands out no huge pages on request"
)
WIDE = {"hidden_size": 512, "intermediate_size": 1024, "head_dim": 64, "num_attention_heads": 8}


def advised(address: int) -> bool:
    """Whether the mapping there has been asked to have huge pages."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            low, high = (int(part, 16) for part in fields[0].split("-"))
            inside = low <= address < high
        elif inside and fields[0] == "VmFlags:":
            return "hg" in fields
    return False


def test_logits_stay_and_large_weights_are_in_huge_pages():
    model = tiny.model("Llama", **WIDE)
    pack_linears(model)
    sizes = {"max_len": 16, "max_nodes": 4}
    before = Single.of(model, **sizes).forward([1, 2], [-1, 0]).clone()
    places = {name: tensor.data_ptr() for name, tensor in model.named_buffers()}
    move_to_huge_pages([model])
    assert torch.equal(Single.of(model, **sizes).forward([1, 2], [-1, 0]), before)
    weight = model.lm_head.weight
    assert weight.data_ptr() != places["lm_head.weight"]
    assert advised(weight.data_ptr())
    assert weight.data_ptr() % 64 == 0


def test_what_is_shared_stays_shared():
    model = tiny.model("Llama", tie_word_embeddings=True, **WIDE)
    quantize_model(model, 8)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    draft = quantized_copy(tiny.model("Llama", **WIDE), "int4")
    assert embedding.weight.data_ptr() == head.weight.data_ptr()
    move_to_huge_pages([model, model, draft])
    assert embedding.weight.data_ptr() == head.weight.data_ptr()
    assert advised(head.weight.data_ptr())


def test_memory_goes_with_the_model():
    model = tiny.model("Llama", **WIDE)
    move_to_huge_pages([model])
    address = model.lm_head.weight.data_ptr()
    assert advised(address)
    del model
    assert not advised(address)
