"""The runner against each family's own eager attention: prefill, chains, trees, compaction."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from specbranch.models import runner as runner_module

from . import tiny
from .single import Single

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def make_runner(
    model: PreTrainedModel, *, max_len: int = 60, max_nodes: int = 12, page_size: int = 4
) -> Single:
    """Its pages are in random order, and what was never written is NaN."""
    single = Single.of(model, max_len=max_len, max_nodes=max_nodes, page_size=page_size)
    for pool in (*single.runner.pool.k, *single.runner.pool.v):
        pool.fill_(float("nan"))
    np.random.default_rng(page_size).shuffle(single.block.pages)
    return single


def some_tokens(n: int) -> list[int]:
    return random.Random(n).choices(range(tiny.VOCAB_SIZE), k=n)


@pytest.fixture(params=tiny.FAMILIES)
def models(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    model = tiny.model(request.param)
    return model, tiny.eager(model)


@pytest.mark.parametrize("page_size", [1, 7, 64])
def test_chain_after_chunked_prefill(models, page_size, monkeypatch):
    monkeypatch.setattr(runner_module, "PREFILL_CHUNK", 11)
    model, eager = models
    tokens = some_tokens(40)
    expected = tiny.logits(eager, tokens)
    runner = make_runner(model, page_size=page_size)
    runner.prefill(tokens[:25])
    runner.prefill(tokens[25:30])
    assert runner.context_len == 30
    first = runner.forward(tokens[30:34], [-1, 0, 1, 2])
    second = runner.forward(tokens[34:35], [3])
    runner.keep([0, 1, 2, 3, 4], 5)
    third = runner.forward(tokens[35:40], [-1, 0, 1, 2, 3])
    torch.testing.assert_close(torch.cat([first, second, third]), expected[30:], **TOLERANCE)


def test_without_a_prompt(models):
    model, eager = models
    tokens = some_tokens(8)
    runner = make_runner(model)
    got = runner.forward(tokens, [*range(-1, 7)])
    torch.testing.assert_close(got, tiny.logits(eager, tokens), **TOLERANCE)


class Mirror:
    """Drives a runner and a list of texts, one a slot, from which the eager model starts anew."""

    def __init__(self, runner: Single, eager: PreTrainedModel, context: list[int]) -> None:
        self.runner, self.eager, self.context = runner, eager, context
        self.texts: list[list[int]] = []  # of each slot: the tokens from the root to it
        runner.prefill(context)

    def forward(self, tokens: list[int], parents: list[int]) -> None:
        for token, parent in zip(tokens, parents, strict=True):
            self.texts.append([*(self.texts[parent] if parent >= 0 else []), token])
        got = self.runner.forward(tokens, parents)
        for row, text in zip(got, self.texts[-len(tokens) :], strict=True):
            expected = tiny.logits(self.eager, [*self.context, *text])[-1]
            torch.testing.assert_close(row, expected, **TOLERANCE)

    def keep(self, keep: list[int], n_context: int) -> None:
        self.runner.keep(keep, n_context)
        self.context = [*self.context, *(self.texts[slot][-1] for slot in keep[:n_context])]
        self.texts = [self.texts[slot][n_context:] for slot in keep[n_context:]]
        assert self.runner.context_len == len(self.context)
        assert len(self.runner.parents) == len(self.texts)


def test_branches_and_survivors(models):
    mirror = Mirror(make_runner(models[0]), models[1], some_tokens(13))
    mirror.forward([5, 6, 7, 8], [-1, 0, 0, 0])
    mirror.forward([9, 10, 9, 11], [1, 2, 3, 5])
    mirror.keep([0, 2, 5, 7], 2)  # path 0, 2; its descendants 5 and 7 live on
    assert mirror.runner.parents == [-1, 0]
    mirror.forward([12, 13], [0, 1])
    mirror.keep([0, 1, 3], 0)  # a leaf is dropped, nothing committed
    assert mirror.runner.parents == [-1, 0, 1]
    mirror.forward([14], [2])
    mirror.keep([0, 1], 2)
    mirror.forward([15], [-1])


def test_random_trees_and_keeps(models):
    """Nodes anywhere, then any path and any part of what lives on below it."""
    rng = random.Random(0)
    mirror = Mirror(make_runner(models[0], page_size=3), models[1], some_tokens(12))
    runner = mirror.runner
    while runner.context_len < 36:
        for _ in range(rng.randint(1, 3)):
            n_nodes, n_new = len(runner.parents), rng.randint(1, 3)
            if n_nodes + n_new > runner.block.max_nodes:
                break
            parents = [
                rng.randrange(slot) if slot else -1 for slot in range(n_nodes, n_nodes + n_new)
            ]
            mirror.forward(rng.choices(range(tiny.VOCAB_SIZE), k=n_new), parents)
        keep, n_context = random_keep(runner.parents, rng)
        mirror.keep(keep, n_context)


def random_keep(block: list[int], rng: random.Random) -> tuple[list[int], int]:
    """A random path from the root, then a random subtree hanging from one child of its end."""
    path = [0]
    while rng.random() < 0.6 and path[-1] in block:
        path.append(rng.choice([slot for slot, parent in enumerate(block) if parent == path[-1]]))
    below = [slot for slot, parent in enumerate(block) if parent == path[-1]]
    if not below:
        return path, len(path)
    alive = [rng.choice(below)]
    for slot, parent in enumerate(block):
        if parent in alive and rng.random() < 0.8:
            alive.append(slot)
    return [*path, *alive], len(path)


def test_a_block_of_more_than_one_mask_word():
    model = tiny.model("Mistral")
    mirror = Mirror(make_runner(model, max_nodes=70), tiny.eager(model), some_tokens(5))
    mirror.forward(some_tokens(30), [-1, *(slot // 2 for slot in range(29))])
    mirror.forward(some_tokens(36), [29, *range(30, 65)])
    mirror.forward([3, 4], [65, 31])


def test_capacity_is_usable_to_the_last_slot():
    model = tiny.model("Llama")
    tokens = some_tokens(42)
    runner = make_runner(model, max_len=37, max_nodes=5, page_size=8)
    runner.prefill(tokens[:37])
    got = runner.forward(tokens[37:], [*range(-1, 4)])
    torch.testing.assert_close(got, tiny.logits(tiny.eager(model), tokens)[37:], **TOLERANCE)
    with pytest.raises(ValueError, match="a block up to 5 nodes, got 6"):
        runner.forward([1], [4])
    with pytest.raises(ValueError, match="a context up to 37, got 38"):
        runner.keep([0], 1)


def test_reset_and_reuse():
    model = tiny.model("Qwen3")
    runner = make_runner(model)
    runner.prefill(some_tokens(20))
    runner.forward([1, 2], [-1, 0])
    runner.reset()
    assert runner.context_len == 0
    assert runner.parents == []
    tokens = some_tokens(9)
    runner.prefill(tokens[:8])
    got = runner.forward(tokens[8:], [-1])
    torch.testing.assert_close(got, tiny.logits(tiny.eager(model), tokens)[8:], **TOLERANCE)


def test_logits_of_the_last_rows_only():
    runner = make_runner(tiny.model("Llama"))
    everything = runner.forward([1, 2, 3], [-1, 0, 0])
    runner.keep([], 0)
    got = runner.forward([1, 2, 3], [-1, 0, 0], logits_rows=2)
    assert got.shape == (2, tiny.VOCAB_SIZE)
    torch.testing.assert_close(got, everything[1:])


def test_a_failed_forward_changes_nothing():
    model = tiny.model("Llama")
    runner = make_runner(model)
    tokens = some_tokens(12)
    runner.prefill(tokens[:10])
    runner.forward(tokens[10:11], [-1])

    pages = runner.block.pages
    runner.block.pages = np.full_like(pages, 10**6)
    with pytest.raises(ValueError, match="block_table"):
        runner.forward([7, 8], [0, 1])
    with pytest.raises(ValueError, match="block_table"):
        runner.forward([7, 8], [0, 0])
    runner.block.pages = pages
    assert runner.parents == [-1]
    assert runner.context_len == 10
    got = runner.forward(tokens[11:], [0])
    torch.testing.assert_close(got, tiny.logits(tiny.eager(model), tokens)[11:], **TOLERANCE)


def test_a_failed_prefill_changes_nothing(monkeypatch):
    monkeypatch.setattr(runner_module, "PREFILL_CHUNK", 4)
    model = tiny.model("Llama")
    runner = make_runner(model)
    calls = []

    def fail_at_the_second_chunk(*args: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError

    hook = model.model.layers[1].register_forward_pre_hook(fail_at_the_second_chunk)
    with pytest.raises(MemoryError):
        runner.prefill(some_tokens(12))
    hook.remove()
    assert runner.context_len == 0


@pytest.mark.parametrize(
    ("tokens", "parents", "message"),
    [
        ([], [], "tokens, parents: expected the same length of at least 1, got 0 and 0"),
        ([1, 2], [0], "got 2 and 1"),
        ([1], [2], "parents: expected -1 to 1 at slot 2, got 2"),
        ([1], [-2], "parents: expected -1 to 1 at slot 2, got -2"),
        ([97], [0], "tokens: expected ids from 0 to 96, got 97 to 97"),
        ([-1], [0], "tokens: expected ids from 0 to 96, got -1 to -1"),
        ([1] * 11, [0] * 11, "a block up to 12 nodes, got 13"),
    ],
)
def test_forward_refuses(tokens, parents, message):
    runner = make_runner(tiny.model("Llama"))
    runner.forward([1, 2], [-1, 0])
    with pytest.raises(ValueError, match=message):
        runner.forward(tokens, parents)
    assert runner.parents == [-1, 0]


@pytest.mark.parametrize("rows", [0, 2])
def test_forward_refuses_rows_that_it_does_not_have(rows):
    runner = make_runner(tiny.model("Llama"))
    with pytest.raises(ValueError, match=f"logits_rows: expected 1 to 1, got {rows}"):
        runner.forward([1], [-1], logits_rows=rows)


@pytest.mark.parametrize(
    ("keep", "n_context", "message"),
    [
        ([0, 1], 3, r"n_context: expected 0 to len\(keep\) = 2, got 3"),
        ([1, 0], 0, "keep: expected increasing slots below 4"),
        ([0, 0], 0, "keep: expected increasing slots below 4"),
        ([0, 4], 0, "keep: expected increasing slots below 4"),
        ([1], 1, "keep: slot 1 does not continue the path at -1"),
        ([0, 3], 2, "keep: slot 3 does not continue the path at 0"),
        ([0, 2], 1, None),
        ([0, 3], 1, "keep: slot 3 is kept without its parent"),
        ([0, 1, 2], 2, "keep: slot 2 is kept without its parent"),
    ],
)
def test_keep_refuses_what_is_no_path_with_its_descendants(keep, n_context, message):
    runner = make_runner(tiny.model("Llama"))
    runner.forward([1, 2, 3, 4], [-1, 0, 0, 1])
    if message is None:
        runner.keep(keep, n_context)
        return
    with pytest.raises(ValueError, match=message):
        runner.keep(keep, n_context)
    assert runner.parents == [-1, 0, 0, 1]
    assert runner.context_len == 0


def test_prefill_refuses():
    runner = make_runner(tiny.model("Llama"), max_len=10)
    with pytest.raises(ValueError, match="a context up to 10, got 11"):
        runner.prefill([1] * 11)
    with pytest.raises(ValueError, match="tokens: expected ids from 0 to 96, got 1 to 97"):
        runner.prefill([1, 97])
    runner.forward([1], [-1])
    with pytest.raises(ValueError, match="expected an empty block, got 1 nodes"):
        runner.prefill([1])


def test_the_model_alone_says_who_runs_it():
    model = tiny.model("Llama")
    make_runner(model)
    with pytest.raises(ValueError, match="set_attn_implementation"):
        tiny.logits(model, [1, 2])
    model.set_attn_implementation("sdpa")
    assert tiny.logits(model, [1, 2]).shape == (2, tiny.VOCAB_SIZE)


def test_layers_that_a_forward_goes_through_again():
    cycles = {"num_layers_per_stack": 2, "H_cycles": 2, "L_cycles": 1, "num_hidden_layers": 8}
    model = tiny.model("HrmText", num_key_value_heads=6, **cycles)
    tokens = some_tokens(12)
    expected = tiny.logits(tiny.eager(model), tokens)
    runner = make_runner(model)
    runner.prefill(tokens[:8])
    found = runner.forward(tokens[8:], [-1, 0, 1, 2])
    torch.testing.assert_close(found, expected[8:], **TOLERANCE)


@pytest.mark.parametrize("family", ["DiffLlama", "JetMoe"])
def test_keys_that_are_changed_after_they_were_cached_are_refused(family):
    runner = make_runner(tiny.model(family))
    with pytest.raises(ValueError, match="this architecture is not supported"):
        runner.prefill([1, 2])


def test_limits_are_the_models_own():
    runner = make_runner(tiny.model("Llama")).runner
    assert runner.vocab_size == tiny.VOCAB_SIZE
    assert runner.max_positions == 256
    assert runner.dtype == torch.float32
