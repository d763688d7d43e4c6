"""A source that reads the target's hidden rows, as trained heads do: it sees the right ones, one
round old, and the text stays the target's own."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.hrad.features import text_features
from specbranch.lanes import Lane, ThreadLanes, VirtualLanes
from specbranch.models.runner import ModelRunner
from specbranch.policies import Autoregressive, BestFirst
from specbranch.request import Request
from specbranch.sources import Guesses, Source, Wanted
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of

LAYERS, K = 2, 3


class Head(Source):
    """One linear layer from the last token's hidden row and the next token's embedding to the next
    hidden row, which it also feeds to itself; the target's own norm and head read it."""

    max_nodes = 64
    hidden_layers = LAYERS

    def __init__(self, pair) -> None:
        target = pair.target
        self.embed = target.model.embed_tokens.weight
        self.logits = lambda hidden: target.lm_head(target.model.norm(hidden[:, -self.width :]))
        self.width = target.config.hidden_size
        self.weight = fitted(pair, self.embed)
        self.seen: list[tuple[list[int], torch.Tensor]] = []

    @torch.inference_mode()
    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        chances = []
        for request, nodes in wanted:
            for node in nodes:
                path = [request.committed[-1], *request.tree.tokens(request.tree.path(node))]
                chances.append(self.after(request.hidden, path))
        return Guesses.of(chances, K)

    def after(self, hidden: torch.Tensor | None, path: Sequence[int]) -> dict[int, float]:
        if hidden is None:
            return {}
        row = hidden[-1:]
        for token in path:
            row = torch.cat([row, self.embed[[token]]], 1) @ self.weight
        best = self.logits(row)[0].softmax(-1).topk(K)
        return dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        for request, _, _ in kept:
            self.seen.append((list(request.committed), request.hidden))


def fitted(pair, embed: torch.Tensor) -> torch.Tensor:
    """By least squares, on texts of the target's."""
    engine = engine_of(pair, Autoregressive())
    runner = ModelRunner(pair.target, max_len=128, max_nodes=64, feature_layers=LAYERS)
    inputs, outputs = [], []
    for seed in range(8):
        params = params_of("T=1", seed=seed, max_new_tokens=100)
        text = engine.generate(PROMPTS[1], params).token_ids
        rows = text_features(runner, PROMPTS[1], text)
        inputs.append(torch.cat([rows[:-1], embed[text[:-1]]], 1))
        outputs.append(rows[1:])
    return torch.linalg.lstsq(torch.cat(inputs), torch.cat(outputs)).solution


def engine_of(pair, policy, **options) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, policy, **{"lanes": lanes, "max_len": 128} | options)


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(tiny.pair(layers=3))


@pytest.fixture(scope="module")
def eager(pair):
    """The target as transformers runs it, which returns the outputs of its last layers."""
    model, outputs = copy.deepcopy(pair.target), []
    model.set_attn_implementation("eager")
    for layer in model.model.layers[-LAYERS:]:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))

    @torch.inference_mode()
    def hidden(tokens: list[int]) -> torch.Tensor:
        outputs.clear()
        model(torch.tensor([tokens]))
        return torch.cat(outputs, -1)[0]

    return hidden


@pytest.fixture(scope="module")
def head(pair, eager):
    return Head(pair)


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_text_is_the_targets_and_the_rows_are_its_own(pair, eager, head, policy, coupling):
    params = params_of("T=1", coupling=coupling)
    engine = engine_of(pair, POLICIES[policy](), source=head)
    expected = engine_of(pair, Autoregressive()).generate(PROMPTS, params)
    head.seen.clear()
    texts = engine.generate(PROMPTS, params)
    assert [each.error for each in texts] == [None] * len(PROMPTS)
    assert [each.token_ids for each in texts] == [each.token_ids for each in expected]
    starts = {tuple(prompt): len(prompt) for prompt in PROMPTS}
    for committed, hidden in head.seen:
        prompt = next(start for start in starts if tuple(committed[: len(start)]) == start)
        new = len(committed) - starts[prompt]
        starts[prompt] = len(committed)
        assert len(hidden) == new  # of the root of then and the right guesses: one for each token
        torch.testing.assert_close(hidden, eager(committed)[-new - 1 : -1], rtol=1e-4, atol=1e-4)
    assert len(head.seen) > len(PROMPTS)


def test_the_head_is_some_use(pair, head):
    stats = engine_of(pair, BestFirst(), source=head).generate(PROMPTS[1], params_of("T=1")).stats
    assert stats.hits > 3


def test_threads_show_the_same(pair, head):
    expected = engine_of(pair, Autoregressive()).generate(PROMPTS, params_of("all"))
    with ThreadLanes(1, 1) as lanes:
        engine = engine_of(pair, BestFirst(), source=head, lanes=lanes)
        texts = engine.generate(PROMPTS, params_of("all"))
    assert [each.token_ids for each in texts] == [each.token_ids for each in expected]


def test_without_such_a_source_nothing_is_kept(pair):
    engine = engine_of(pair, BestFirst())
    assert engine._target.feature_layers == 0
