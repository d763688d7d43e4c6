"""The loss, training that learns, validation by the target's choices, resuming, and refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from specbranch.loading.distilled import cut_draft
from specbranch.training.distill import run, validate
from specbranch.training.distill.batches import make_batch, read_examples, shuffled_batches
from specbranch.training.distill.head import Head
from specbranch.training.distill.run import CHECKPOINT, Distillation, DraftShape, frequent_tokens
from specbranch.training.distill.train import (
    Columns,
    Trainer,
    TrainOptions,
    distance,
    divergence,
    draft_states,
)
from specbranch.training.distill.validate import Validator, fit_readout
from tests.engine import tiny

SHAPE = DraftShape("0", 40)
OPTIONS = TrainOptions(steps=30, tokens=256, length=64, lr=3e-3)


@pytest.fixture(scope="module")
def examples(corpus):
    return read_examples(corpus)


def distillation(corpus, out: Path, shape: DraftShape = SHAPE, **changes: int) -> Distillation:
    settings = {"validate_every": 10, "patience": 5, **changes}
    return Distillation(tiny.model(), "tiny", corpus, shape, OPTIONS, out, **settings)


def test_divergence_is_that_of_the_laws():
    ours, theirs = torch.randn(2, 3, 7).unbind()
    kl, ce = divergence(ours, theirs)
    q, p = ours.softmax(-1), theirs.softmax(-1)
    torch.testing.assert_close(kl, (p * (p / q).log()).sum())
    torch.testing.assert_close(ce, -q.log()[torch.arange(3), p.argmax(-1)].sum())
    assert float(divergence(theirs, theirs)[0]) == pytest.approx(0, abs=1e-6)


def test_a_head_with_all_that_a_head_can_have():
    model = tiny.model()
    model.config.final_logit_softcapping = 3.0
    hidden = torch.randn(5, 64)
    head = Head.of(model)
    expected = 3 * torch.tanh(model.lm_head(hidden) / 3)
    torch.testing.assert_close(head(hidden), expected)
    torch.testing.assert_close(head.rows(torch.tensor([9, 2]))(hidden), expected[:, [9, 2]])
    biased = Head(head.weight, torch.randn(64), None).rows(torch.tensor([4]))
    torch.testing.assert_close(
        biased(hidden)[:, 0], hidden @ head.weight[4] + biased.bias, rtol=1e-4, atol=1e-4
    )


def test_distance_is_relative_to_the_targets_norm():
    wanted = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    states = torch.tensor([[3.0, 9.0], [2.0, 0.0]])
    assert float(distance(states, wanted)) == pytest.approx(25 / 25 + 8 / 4)


@pytest.mark.parametrize("weights", [{"ce_weight": 0.3}, {"hidden_weight": 0.7}, {}])
def test_a_batchs_loss_is_its_parts_weighted(examples, weights):
    training, _ = examples
    draft = cut_draft(tiny.model(), [0], torch.arange(64).int())
    options = replace(OPTIONS, **{"ce_weight": 0.0, "hidden_weight": 0.0} | weights)
    batch = next(shuffled_batches(training, tokens=256, length=64, seed=options.seed + 1))
    states = draft_states(draft, batch)
    head = Head.of(draft.model)
    n = len(states)
    kl, ce = divergence(head(states), head(batch.hidden))
    expected = kl + options.ce_weight * ce + options.hidden_weight * distance(states, batch.hidden)
    loss = Trainer(draft, training, options).train_step()
    assert loss == pytest.approx(float(expected.detach()) / n, rel=0.02)  # its logits are bf16


def test_columns_are_the_frequent_the_present_and_a_few_others(monkeypatch):
    monkeypatch.setattr("specbranch.training.distill.train._FREQUENT", 5)
    monkeypatch.setattr("specbranch.training.distill.train._RARE", 3)
    columns = Columns(torch.arange(100, 0, -1, dtype=torch.int32))
    chosen = [columns.choose(torch.tensor([[100, 7, 300]]), seed).tolist() for seed in range(5)]
    for one in chosen:
        assert one == sorted(set(one))
        assert {0, 1, 2, 3, 4, 93} <= set(one)
        assert len(one) <= 9
    assert len({tuple(one) for one in chosen}) > 1


def test_frequent_tokens_come_first(examples):
    training, _ = examples
    target = tiny.model()
    ids = frequent_tokens(training, target, DraftShape("0", 10)).tolist()
    counts = torch.cat([each.tokens for each in training]).bincount(minlength=64)
    assert counts[ids].tolist() == counts.sort(descending=True).values[:10].tolist()
    assert len(frequent_tokens(training, target, DraftShape("0", 1000))) == 64


def test_draft_states_are_those_of_a_plain_forward(examples):
    training, _ = examples
    draft = cut_draft(tiny.model(), [1, 0], torch.arange(64).int())
    batch = make_batch(training[:2], length=64)
    plain = copy.deepcopy(draft.model)
    with torch.inference_mode():
        packed = draft_states(draft, batch)
        alone = [
            plain.base_model(each.tokens.long()[None]).last_hidden_state[0, each.answer_start - 1 :]
            for each in training[:2]
        ]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_the_fitted_readout_is_the_nearest_linear_map(examples, monkeypatch):
    """For a draft with all layers and a turned readout it turns back."""
    monkeypatch.setattr(validate, "_RIDGE", 1)
    training, _ = examples
    draft = cut_draft(tiny.model(), [0, 1], torch.arange(64).int())
    with torch.no_grad():
        draft.readout.weight.copy_(torch.linalg.qr(torch.randn(64, 64)).Q)
    fit_readout(draft, shuffled_batches(training, tokens=256, length=64, seed=0))
    torch.testing.assert_close(draft.readout.weight, torch.eye(64), rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_teaches_the_draft_and_nothing_else(examples, dtype):
    training, held_out = examples
    target = tiny.model().to(dtype)
    before = copy.deepcopy(target.state_dict())
    draft = cut_draft(target, [0], frequent_tokens(training, target, SHAPE))
    head = draft.model.get_output_embeddings().weight.clone()
    validator = Validator(target, held_out, 64)
    start = validator.validate(draft)
    trainer = Trainer(draft, training, OPTIONS)
    losses = [trainer.train_step() for _ in range(OPTIONS.steps)]
    end = validator.validate(draft)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert end.divergence < 0.7 * start.divergence
    assert torch.equal(draft.model.get_output_embeddings().weight, head)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_a_draft_that_is_the_target_agrees_everywhere(examples):
    _, held_out = examples
    target = tiny.model()
    whole = cut_draft(target, [0, 1], torch.arange(63, -1, -1).int())
    validation = Validator(target, held_out, 64).validate(whole)
    assert validation.agreement > 0.97  # but for roundings of bf16
    assert validation.divergence < 0.01
    assert validation.tokens == sum(len(each.hidden) - each.answer_start + 1 for each in held_out)
    narrow = cut_draft(target, [0, 1], torch.arange(32).int())
    assert Validator(target, held_out, 64).validate(narrow).agreement < validation.agreement


def test_the_learning_rate_rises_and_falls(examples):
    trainer = Trainer(cut_draft(tiny.model(), [0], torch.arange(64).int()), examples[0], OPTIONS)
    rates = []
    for _ in range(OPTIONS.steps):
        trainer.train_step()
        rates.append(trainer._optimiser.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(OPTIONS.lr, rel=0.01)
    assert rates[0] < OPTIONS.lr
    assert rates[-1] < 0.1 * OPTIONS.lr


def test_a_killed_training_goes_on_where_its_checkpoint_stands(corpus, tmp_path):
    first = distillation(corpus, tmp_path)
    for progress in first.run():
        if progress.step == 14:  # killed four steps after a validation
            break
    assert (tmp_path / CHECKPOINT).is_file()
    second = distillation(corpus, tmp_path)
    assert (second.step, second.best) == (10, first.best)
    assert [progress.step for progress in second.run()] == list(range(11, 31))
    assert second.best >= first.best
    assert list(distillation(corpus, tmp_path).run()) == []


def test_a_resumed_training_is_the_one_that_was_not_cut(corpus, tmp_path):
    whole = list(distillation(corpus, tmp_path / "whole").run())
    for progress in distillation(corpus, tmp_path / "cut").run():
        if progress.step == 20:
            break
    second = distillation(corpus, tmp_path / "cut")
    assert second.validation == progress.validation
    assert list(second.run()) == whole[20:]


def test_training_stops_when_nothing_gets_better(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "Validator", lambda *args: ConstantValidator())
    steps = [progress.step for progress in distillation(corpus, tmp_path, patience=2).run()]
    assert steps[-1] == 20


class ConstantValidator:
    def validate(self, draft: object) -> validate.Validation:
        return validate.Validation(0.5, 1.0, 10)


def test_a_checkpoint_of_other_layers_is_refused(corpus, tmp_path):
    distillation(corpus, tmp_path)
    with pytest.raises(ValueError, match=r"layers: expected 0, .*got 1; remove it"):
        distillation(corpus, tmp_path, DraftShape("1", 40))
