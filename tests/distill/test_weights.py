"""Master weights, their averages, and attention of passages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from specbranch.training.distill.attention import passage_attention
from specbranch.training.distill.weights import MasterWeights


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)


def test_steps_too_small_for_bf16_add_up(linear):
    weights = MasterWeights({"linear": linear}, decay=0.0)
    linear.weight.grad = torch.ones_like(linear.weight)
    weights.take_gradients()
    assert linear.weight.grad is None
    (master,) = weights.masters
    start = master.detach().clone()
    for step in range(1, 101):
        master.data.sub_(1e-4 * master.grad)
        weights.stepped(step)
    assert torch.equal(linear.weight, (start - 1e-2).bfloat16())


def test_the_average_is_there_only_inside(linear):
    weights = MasterWeights({"linear": linear}, decay=0.5)
    (master,) = weights.masters
    expected = master.clone()
    for step, decay in ((1, 1 / 11), (2, 2 / 12), (200, 0.5)):
        master.data.add_(1)
        expected.lerp_(master, 1 - decay)
        weights.stepped(step)
    with weights.averaged():
        assert torch.equal(linear.weight, expected.bfloat16())
    assert torch.equal(linear.weight, master.bfloat16())


def test_all_of_it_is_resumed(linear):
    first = MasterWeights({"linear": linear}, decay=0.5)
    first.masters[0].data.add_(0.001)
    first.stepped(3)
    other = nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)
    second = MasterWeights({"linear": other}, decay=0.5)
    second.resume(first.state())
    assert torch.equal(other.weight, linear.weight)
    with first.averaged(), second.averaged():
        assert torch.equal(other.weight, linear.weight)
    assert torch.equal(second.masters[0], first.masters[0])


@pytest.mark.parametrize("window", [None, 3])
def test_each_passage_sees_itself_alone(window):
    torch.manual_seed(0)
    lengths = (5, 1, 7)
    query = torch.randn(1, 4, 13, 8, requires_grad=True)
    key, value = torch.randn(2, 1, 2, 13, 8, requires_grad=True).unbind()
    ends = torch.tensor(lengths).repeat_interleave(torch.tensor(lengths))
    owner = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    assert len(ends) == 13
    visible = (owner[:, None] == owner) & torch.ones(13, 13, dtype=torch.bool).tril()
    if window:
        visible &= torch.ones(13, 13, dtype=torch.bool).triu(1 - window)
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, scale=0.3, enable_gqa=True
    )
    ours, _ = passage_attention(
        nn.Module(), query, key, value, None, 0.3, sliding_window=window, lengths=lengths
    )
    torch.testing.assert_close(ours.transpose(1, 2), expected)
    direction = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, query, direction)
    (got,) = torch.autograd.grad(ours.transpose(1, 2), query, direction)
    torch.testing.assert_close(got, wanted)


def test_softcapped_scores():
    query, key, value = torch.randn(3, 1, 1, 2, 8).unbind()
    ours, _ = passage_attention(
        nn.Module(), query * 50, key, value, None, 1.0, softcap=2.0, lengths=(2,)
    )
    scores = 2 * torch.tanh(50 * query[0, 0, 1] @ key[0, 0].T / 2)
    torch.testing.assert_close(ours[0, 1, 0], scores.softmax(-1) @ value[0, 0])
