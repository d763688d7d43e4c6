"""The bits of a row's logits depend on the tokens of its own path, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specbranch.models import ModelRunner, one_call
from specbranch.models.block import BlockRows, Keep

from . import tiny
from .packed import packed, quantized
from .single import Single

SIZES = {"max_len": 200, "max_nodes": 40, "page_size": 16}
CASES = ["Llama", "Llama odd", "Gemma2 capped", "Gemma3", "Qwen3", "Phi3"]
FORMATS = {
    "fp32": lambda case: packed(case),
    "bf16": lambda case: packed(case, torch.bfloat16),
    "q4": lambda case: quantized(case, 4),
    "q8, bf16": lambda case: quantized(case, 8, torch.bfloat16),
}
tokens = st.integers(0, tiny.VOCAB_SIZE - 1)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module", params=FORMATS)
def plain_decoding(case, request):
    if request.param[0] == "q" and case == "Llama odd":
        pytest.skip("few bits take whole groups of 32 inputs")
    return PlainDecoding(FORMATS[request.param](case))


class PlainDecoding:
    """Logits after every prefix of a text beyond its prompt, one token a forward."""

    def __init__(self, model) -> None:
        self.model = model
        self.runner = Single.of(model, **SIZES)

    def logits(self, prompt: Sequence[int], text: Sequence[int]) -> list[Tensor]:
        self.runner.reset()
        self.runner.prefill(prompt)
        rows = []
        for token in text:
            rows.append(self.runner.forward([token], [-1])[0])
            self.runner.keep([0], 1)
        return rows


@st.composite
def trees(draw):
    """A prompt, and nodes below it: tokens and parents, in several forwards."""
    prompt = draw(st.lists(tokens, max_size=150))
    count = draw(st.integers(1, 36))
    parents = [draw(st.integers(-1 if node < 2 else 0, node - 1)) for node in range(count)]
    splits = sorted(draw(st.sets(st.integers(1, count), max_size=3)) | {count})
    return prompt, draw(st.lists(tokens, min_size=count, max_size=count)), parents, splits


def path_of(node: int, ids: Sequence[int], parents: Sequence[int]) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.insert(0, ids[node])
        node = parents[node]
    return path


@settings(max_examples=12)
@given(tree=trees(), threads=st.sampled_from([1, 2]), chosen=st.data())
def test_rows_of_any_tree_are_those_of_plain_decoding(plain_decoding, tree, threads, chosen):
    prompt, ids, parents, splits = tree
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = Single.of(plain_decoding.model, **SIZES)
        together.prefill(prompt)
        rows: list[Tensor] = []
        for first, end in zip([0, *splits], splits, strict=False):
            rows += together.forward(ids[first:end], parents[first:end])
    finally:
        torch.set_num_threads(before)
    for node in chosen.draw(st.sets(st.integers(0, len(ids) - 1), min_size=1, max_size=4)):
        wanted = plain_decoding.logits(prompt, path_of(node, ids, parents))[-1]
        assert torch.equal(rows[node], wanted)


@pytest.mark.parametrize("of_format", FORMATS)
def test_rows_do_not_depend_on_the_rest_of_a_batch(of_format):
    model = FORMATS[of_format]("Llama")
    runner = ModelRunner(model, max_requests=3, **SIZES)
    prompts = ([5] * 3, list(range(70)), [9, 8] * 30)
    blocks = [runner.open() for _ in prompts]
    for block, prompt in zip(blocks, prompts, strict=True):
        runner.prefill(block, prompt)
    batch = [BlockRows(block, [1, 2, 3], [-1, 0, 0], 3) for block in blocks]
    together = runner.forward(batch)
    runner.keep([Keep(block, [], 0) for block in blocks])
    alone = [runner.forward([rows]) for rows in batch]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("of_format", FORMATS)
@pytest.mark.parametrize("case", ["Llama", "Gemma2 capped"])
def test_a_prompt_is_read_as_if_it_were_decoded(case, of_format, monkeypatch):
    """In pieces of any size, whatever was read before."""
    plain = PlainDecoding(FORMATS[of_format](case))
    text = [(7 * place) % tiny.VOCAB_SIZE for place in range(60)]
    wanted = plain.logits([], text)[-1]
    for rows, first in ((128, 59), (8, 59), (8, 20)):
        monkeypatch.setattr(one_call, "READ_ROWS", rows)
        plain.runner.reset()
        plain.runner.prefill(text[:first])
        plain.runner.prefill(text[first:59])
        assert torch.equal(plain.runner.forward([text[59]], [-1])[0], wanted)


def test_rows_wanted_alone_are_the_same():
    runner = Single.of(packed("Gemma3"), **SIZES)
    every = runner.forward(list(range(20)), [*range(-1, 19)])
    runner.reset()
    assert torch.equal(runner.forward(list(range(20)), [*range(-1, 19)], 3), every[-3:])
