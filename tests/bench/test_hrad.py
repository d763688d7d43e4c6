"""What H-RAD is judged by: areas, and what is foreseen of blocks that are drafted in part."""

from __future__ import annotations

import pytest
import torch

from bench.hrad import CONFIDENCE, HYBRID, MAJORITY, PUBLISHED, judged, outlooks, roc_area
from specbranch.hrad.model import HRadConfig, OutlookClassifier
from specbranch.training.hrad.train import Examples

GAMMA, HIDDEN = 4, 3
CONFIG = HRadConfig("target", "draft", GAMMA, feature_layers=4, hidden_size=HIDDEN)


def test_an_area_is_the_share_of_pairs_in_order():
    scores, positives = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]).bool()
    assert roc_area(scores, positives) == 0.75
    assert roc_area(torch.zeros(4), positives) == 0.5
    assert roc_area(scores, positives.logical_not()) == 0.25


def test_what_is_foreseen_goes_by_what_is_drafted():
    torch.manual_seed(0)
    classifier = OutlookClassifier(CONFIG).eval()
    inputs, blocks = torch.randn(5, CONFIG.num_inputs), torch.rand(5, GAMMA, 2)
    foreseen = torch.tensor(outlooks(classifier, inputs, blocks, [0, 2, GAMMA]))
    assert foreseen.shape == (5, 3, 3)
    half = blocks.clone()
    half[:, 2:] = 0
    for column, block in enumerate((torch.zeros_like(blocks), half, blocks)):
        torch.testing.assert_close(foreseen[:, column], classifier.chances(inputs, block))


def test_every_predictor_is_judged_and_the_published_one_sees_no_block():
    torch.manual_seed(0)
    classifier = OutlookClassifier(CONFIG).eval()
    examples = Examples(
        torch.randn(30, CONFIG.num_inputs), torch.arange(30) % 3, torch.rand(30, GAMMA, 2)
    )
    found = judged(dict.fromkeys((PUBLISHED, HYBRID), classifier), examples, examples)
    assert list(found) == [MAJORITY, CONFIDENCE, PUBLISHED, HYBRID]
    assert found[MAJORITY].scores.accuracy == pytest.approx(1 / 3)
    assert found[PUBLISHED].areas == (0.5, 0.5)  # an untrained part for the target adds nothing
    assert found[HYBRID].areas != (0.5, 0.5)
