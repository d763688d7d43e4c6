"""Which layers a draft begins with: by number, by kind, and by what their absence costs."""

from __future__ import annotations

import pytest
import torch

from specbranch.training.distill.batches import read_examples
from specbranch.training.distill.layers import chosen, pick_layers, readout_divergence
from tests.engine import tiny

TOKEN_IDS = torch.arange(64).int()


@pytest.mark.parametrize(
    ("wanted", "layers"),
    [
        ("3,1", (3, 1)),
        ("first:2", (0, 1)),
        ("even:1", (0,)),
        ("even:3", (0, 2, 4)),
        ("even:5", (0, 1, 2, 3, 4)),
    ],
)
def test_layers_by_number_and_kind(wanted, layers):
    assert pick_layers(wanted, tiny.model(layers=5), [], TOKEN_IDS) == layers


@pytest.mark.parametrize("wanted", ["", "0,x", "first:0", "even:6", "last:2", "first:x", "first:"])
def test_layers_that_cannot_be(wanted):
    with pytest.raises(ValueError, match="layers: expected numbers separated by commas, or first"):
        pick_layers(wanted, tiny.model(layers=5), [], TOKEN_IDS)


def test_those_that_are_missed_least_go():
    missed = {0: 9.0, 1: 0.1, 2: 5.0, 3: 0.2, 4: 0.3, 5: 8.0, 6: 0.4, 7: 7.0}

    def divergence(layers):
        return sum(cost for layer, cost in missed.items() if layer not in layers)

    assert chosen(4, range(8), divergence) == (0, 2, 5, 7)
    assert chosen(8, range(8), divergence) == tuple(range(8))


def test_costs_are_measured_anew():
    """Either of two like layers may go, not both."""

    def divergence(layers):
        return 10.0 * (not {0, 1} & set(layers)) + 1.0 * (2 not in layers)

    assert chosen(2, range(3), divergence) == (1, 2)
    assert set(chosen(1, range(3), divergence)) & {0, 1}


def test_a_layer_that_does_nothing_is_not_chosen(corpus):
    """The corpus is of a model that the target is but for a layer in between."""
    model, target = tiny.model(), tiny.model(layers=3)
    target.model.layers[1].self_attn.o_proj.weight.data.zero_()
    target.model.layers[1].mlp.down_proj.weight.data.zero_()
    target.model.layers[0].load_state_dict(model.model.layers[0].state_dict())
    target.model.layers[2].load_state_dict(model.model.layers[1].state_dict())
    for name in ("embed_tokens", "norm"):
        getattr(target.model, name).load_state_dict(getattr(model.model, name).state_dict())
    target.lm_head.load_state_dict(model.lm_head.state_dict())
    examples, _ = read_examples(corpus)
    divergence = readout_divergence(target, examples, TOKEN_IDS)
    assert divergence((0, 2)) == pytest.approx(divergence((0, 1, 2)))
    assert pick_layers("chosen:2", target, examples, TOKEN_IDS) == (0, 2)
