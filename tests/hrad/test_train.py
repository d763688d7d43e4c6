"""Training, its file, and the rules it is held against."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from specbranch.hrad.model import HRad, HRadConfig, OutlookClassifier, save_classifier
from specbranch.training.hrad.collection import PromptExamples, Settings
from specbranch.training.hrad.confusion import save_confusion
from specbranch.training.hrad.scores import ConfidenceRule, majority, score_all, scores
from specbranch.training.hrad.train import (
    Examples,
    TrainingOptions,
    config_for,
    fit,
    pooled,
    split_by_prompt,
)
from tests.engine import tiny

GAMMA, HIDDEN = 4, 3
CONFIG = HRadConfig("target", "draft", GAMMA, feature_layers=4, hidden_size=HIDDEN)
OPTIONS = TrainingOptions(epochs=8, learning_rate=3e-3)


def prompt(seed: int, n: int = 60) -> PromptExamples:
    """Blocks of which feature 0 tells all: below -0.8 nothing is accepted, above 0.2 everything.

    The draft's confidence tells nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, CONFIG.num_inputs, generator=generator)
    inputs[:, 1] = 1000 + inputs[:, 1]  # hidden states have such outliers
    accepted = torch.full((n,), 1 + seed % (GAMMA - 1))
    accepted[inputs[:, 0] < -0.8] = 0
    accepted[inputs[:, 0] > 0.2] = GAMMA
    block = torch.rand(n, GAMMA, 2, generator=generator)
    return PromptExamples(inputs, accepted, block, f"prompt {seed}")


@pytest.fixture(scope="module")
def sides() -> list[Examples]:
    split = split_by_prompt([prompt(seed) for seed in range(30)], seed=0)
    return [pooled(side, GAMMA) for side in split]


@pytest.fixture(scope="module")
def classifier(sides) -> OutlookClassifier:
    return fit(sides[0], sides[1], CONFIG, OPTIONS)


def test_the_split_is_by_prompt_and_by_seed():
    prompts = [
        dataclasses.replace(prompt(seed, n=1), category="abc"[seed % 3]) for seed in range(30)
    ]
    sides = [{*map(id, side)} for side in split_by_prompt(prompts, seed=1)]
    assert [len(side) for side in sides] == [21, 3, 6]
    assert len(set.union(*sides)) == 30
    assert sides != [{*map(id, side)} for side in split_by_prompt(prompts, seed=2)]


def test_every_category_is_on_every_side():
    prompts = [
        dataclasses.replace(prompt(seed, n=1), category="abc"[seed % 3]) for seed in range(30)
    ]
    for side in split_by_prompt(prompts, seed=0):
        assert {each.category for each in side} == {"a", "b", "c"}
    with pytest.raises(ValueError, match="expected at least 4 prompts, got 2"):
        split_by_prompt(prompts[:2], seed=0)


def test_classes_depend_on_the_blocks_length():
    blocks = PromptExamples(torch.zeros(4, 1), torch.tensor([0, 1, 2, 4]), torch.zeros(4, 4, 2), "")
    assert pooled([blocks], 4).classes.tolist() == [0, 1, 1, 2]
    shorter = pooled([blocks], 2)
    assert shorter.classes.tolist() == [0, 1, 2, 2]
    assert shorter.max_prob.shape == (4, 2)


def test_what_the_features_tell_is_learnt(classifier, sides):
    by_name = score_all(classifier, sides[0], sides[2])
    assert by_name["H-RAD"].accuracy > 0.9
    assert min(by_name["H-RAD"].recall) > 0.8
    assert by_name["confidence alone"].accuracy < 0.6
    assert by_name["majority class"].accuracy < 0.6


def test_chances_are_at_the_classes_own_frequencies(classifier, sides):
    chances = classifier.chances(sides[2].inputs, sides[2].block)
    frequencies = sides[2].classes.bincount() / len(sides[2].classes)
    torch.testing.assert_close(chances.mean(dim=0), frequencies, atol=0.05, rtol=0)


def test_one_seed_one_classifier(sides):
    few = TrainingOptions(epochs=1)
    one, same = (fit(sides[0], sides[1], CONFIG, few).state_dict() for _ in range(2))
    other = fit(sides[0], sides[1], CONFIG, dataclasses.replace(few, seed=1)).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["of_block.0.weight"], other["of_block.0.weight"])


def test_it_ends_when_validation_gets_no_better_and_keeps_the_best(sides):
    """Validation labels that contradict training: each epoch makes it worse."""
    contradicting = sides[1]._replace(classes=2 - sides[1].classes)
    epochs = []
    options = TrainingOptions(patience=2, learning_rate=3e-3)
    note = lambda epoch, loss: epochs.append((epoch, loss))  # noqa: E731
    best = fit(sides[0], contradicting, CONFIG, options, note)
    assert [epoch for epoch, _ in epochs][-2:] == [1, 2]  # of the target's part, none of them kept
    assert all(loss > min(loss for _, loss in epochs[:-2]) for _, loss in epochs[-2:])
    seen = sides[2].inputs, sides[2].block
    _, unmoved = best.chances(*seen), best.chances(torch.zeros_like(seen[0]), seen[1])
    assert torch.equal(best.chances(*seen), unmoved)


def test_too_few_examples_are_refused(sides):
    training, validation, _ = sides
    one, none = (Examples(*(part[:count] for part in training)) for count in (1, 0))
    with pytest.raises(ValueError, match="training: expected at least 2 examples, got 1"):
        fit(one, validation, CONFIG, TrainingOptions())
    with pytest.raises(ValueError, match="validation: expected at least 1 examples, got 0"):
        fit(training, none, CONFIG, TrainingOptions())


def test_confidence_alone_finds_the_best_pair_of_thresholds():
    max_prob = torch.tensor(
        [[0.1, 0.9], [0.2, 0.9], [0.6, 0.5], [0.7, 0.4], [0.9, 0.8], [0.9, 0.9]]
    )
    block = torch.stack([max_prob, torch.zeros(6, 2)], dim=2)
    examples = Examples(torch.zeros(6, 1), torch.tensor([0, 0, 1, 1, 2, 2]), block)
    assert scores(ConfidenceRule.fit(examples)(examples), examples.classes).accuracy == 1
    assert (
        majority(examples._replace(classes=torch.tensor([1, 1, 2])), examples).tolist() == [1] * 6
    )


def test_scores_by_class():
    each = scores(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]))
    assert each.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert each.accuracy == 0.5
    assert each.recall == [0.5, 1, 0]
    assert each.precision[:2] == pytest.approx([1, 1 / 3])


def test_the_confusion_matrices_are_drawn(classifier, sides, tmp_path):
    save_confusion(score_all(classifier, sides[0], sides[2]), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_gamma_beyond_what_was_collected_is_refused():
    settings = Settings("target", "draft", "float32", GAMMA, 4, HIDDEN, {})
    assert config_for(settings, None) == CONFIG
    assert config_for(settings, 2).gamma == 2
    with pytest.raises(ValueError, match="gamma: expected 1 to the collection's 4, got 5"):
        config_for(settings, 5)


@pytest.fixture
def pair():
    return dataclasses.replace(tiny.pair(), target_name="target", draft_name="draft")


def test_the_file_holds_the_classifier(classifier, pair, tmp_path):
    path = tmp_path / "hrad.safetensors"
    save_classifier(path, classifier, CONFIG)
    loaded = HRad.load(path, pair)
    assert loaded.config == CONFIG
    seen = torch.randn(5, CONFIG.num_inputs), torch.rand(5, GAMMA, 2)
    assert torch.equal(loaded._classifier.chances(*seen), classifier.chances(*seen))


def test_another_pair_is_refused(classifier, pair, tmp_path):
    path = tmp_path / "hrad.safetensors"
    save_classifier(path, classifier, CONFIG)
    other = dataclasses.replace(pair, draft_name="another")
    with pytest.raises(
        ValueError, match=r"trained for target target and draft draft, got .* draft another"
    ):
        HRad.load(path, other)


def test_another_file_is_refused(pair, tmp_path):
    path = tmp_path / "hrad.safetensors"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="hrad: expected a file of `hrad train`, got"):
        HRad.load(path, pair)
