"""Several requests in one forward and one compaction: each is as it is alone."""

from __future__ import annotations

import random

import pytest
import torch

from specbranch.models import ModelRunner
from specbranch.models.block import BlockRows, Keep
from specbranch.models.cuda_graphs import CapturedForward
from tests.replaying_capture import ReplayingCapture

from . import tiny
from .single import Single
from .test_runner import random_keep

REQUESTS = 4
SIZES = {"max_len": 60, "max_nodes": 12, "page_size": 4}


def eager(forward, buffers):
    return forward


def captured(forward, buffers):
    return CapturedForward(forward, buffers, ReplayingCapture())


def some_rows(rng: random.Random, single: Single) -> tuple[list[int], list[int], int]:
    """Tokens, parents and logits rows of new nodes anywhere in a block, at least one."""
    present = len(single.block)
    new = rng.randint(1, min(4, 12 - present))
    parents = [rng.randrange(slot) if slot else -1 for slot in range(present, present + new)]
    return rng.choices(range(tiny.VOCAB_SIZE), k=new), parents, rng.randint(1, new)


@pytest.mark.parametrize(
    "prepare", [None, eager, captured], ids=["as prepared", "eager", "captured"]
)
@pytest.mark.parametrize("family", ["Llama", "Gemma3"])
def test_a_batch_is_its_requests_alone(family, prepare):
    """Any of the requests take part in a forward, in any order, with blocks of any shape."""
    model, rng = tiny.model(family), random.Random(3)
    together = ModelRunner(model, max_requests=REQUESTS, feature_layers=1, prepare=prepare, **SIZES)
    for pool in (*together.pool.k, *together.pool.v):
        pool.fill_(torch.nan)
    blocks = [together.open() for _ in range(REQUESTS)]
    alone = [Single.of(model, feature_layers=1, **SIZES) for _ in range(REQUESTS)]
    for length, block, single in zip((3, 0, 17, 8), blocks, alone, strict=True):
        prompt = rng.choices(range(tiny.VOCAB_SIZE), k=length)
        together.prefill(block, prompt)
        single.prefill(prompt)
    for _ in range(12):
        chosen = [i for i in range(REQUESTS) if rng.random() < 0.7 and len(blocks[i]) < 12]
        if chosen:
            rows = [some_rows(rng, alone[i]) for i in chosen]
            batch = [BlockRows(blocks[i], *of) for i, of in zip(chosen, rows, strict=True)]
            logits, features = together.forward(batch), together.features
            positions = together.next_positions.tolist()
            wanted, hidden, next_positions = [], [], []
            for i, of in zip(chosen, rows, strict=True):
                wanted.append(alone[i].forward(*of))
                hidden.append(alone[i].runner.features)
                next_positions += alone[i].runner.next_positions.tolist()
            torch.testing.assert_close(logits, torch.cat(wanted), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(features, torch.cat(hidden), rtol=1e-4, atol=1e-4)
            assert positions == next_positions
        ending = [i for i in range(REQUESTS) if len(blocks[i]) and rng.random() < 0.5]
        if ending:
            kept = [random_keep(alone[i].parents, rng) for i in ending]
            together.keep([Keep(blocks[i], *of) for i, of in zip(ending, kept, strict=True)])
            for i, of in zip(ending, kept, strict=True):
                alone[i].keep(*of)
        assert [block.nodes for block in blocks] == [single.block.nodes for single in alone]
        assert [block.context_len for block in blocks] == [each.context_len for each in alone]


def test_pages_go_to_the_next_request():
    runner = ModelRunner(tiny.model("Llama"), max_requests=2, **SIZES)
    first, second = runner.open(), runner.open()
    assert not set(first.pages.tolist()) & set(second.pages.tolist())
    with pytest.raises(ValueError, match="count: expected at most 2 free pages, got 18"):
        runner.open()
    runner.close(first)
    assert set(runner.open().pages.tolist()) == set(first.pages.tolist())


def test_one_wrong_request_changes_no_other():
    runner = ModelRunner(tiny.model("Llama"), max_requests=2, **SIZES)
    first, second = runner.open(), runner.open()
    good = BlockRows(first, [1, 2], [-1, 0], 1)
    with pytest.raises(ValueError, match="parents: expected -1 to -1 at slot 0, got 0"):
        runner.forward([good, BlockRows(second, [1], [0], 1)])
    assert len(first) == len(second) == 0
    runner.forward([good, BlockRows(second, [1], [-1], 1)])
    with pytest.raises(ValueError, match="keep: expected increasing slots below 1"):
        runner.keep([Keep(first, [0], 1), Keep(second, [1], 1)])
    assert (len(first), first.context_len, len(second)) == (2, 0, 1)
    with pytest.raises(ValueError, match="batch: expected 1 to 2 requests, got 0"):
        runner.forward([])
