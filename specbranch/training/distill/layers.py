"""Which layers of its target a draft begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from specbranch.loading.distilled import cut_draft
from specbranch.training.distill.batches import Example, shuffled_batches
from specbranch.training.distill.validate import Validator, fit_readout

# What a choice is made by: enough to tell layers apart, and no more, as it takes minutes.
_MEASURED = 6  # examples
_FITTED = 1536  # tokens
_LENGTH = 256
_VOCAB = 4096

Layers = tuple[int, ...]


def pick_layers(
    wanted: str, target: PreTrainedModel, examples: Sequence[Example], token_ids: Tensor
) -> Layers:
    """The layers that a text asks for: numbers, as in `0,1,2`, or so many of a kind.

    wanted: `first:8`; `even:8`, evenly spaced from the first to the last; or `chosen:8`, what is
    left when those go whose absence hurts least (see `chosen`).
    Raises ValueError for another text, or more layers than there are.
    """
    kind, _, number = wanted.rpartition(":")
    try:
        if not kind:
            return tuple(int(each) for each in wanted.split(","))
        n = int(number)
    except ValueError:
        n = 0
    total = target.config.num_hidden_layers
    if kind not in ("first", "even", "chosen") or not 0 < n <= total:
        raise ValueError(
            "layers: expected numbers separated by commas, or first:n, even:n or chosen:n with n "
            f"from 1 to {total}, got {wanted!r}"
        )
    if kind == "first":
        return tuple(range(n))
    if kind == "even":
        return tuple(round(at * (total - 1) / max(1, n - 1)) for at in range(n))
    return chosen(n, range(total), readout_divergence(target, examples, token_ids))


def chosen(n: int, layers: Sequence[int], divergence: Callable[[Layers], float]) -> Layers:
    """`n` of the layers: in rounds, those whose absence alone costs least of all that are left go.

    A round drops a third of those that are still to go, so that the costs are measured anew the
    more often the fewer are left: 8 of 30 take 140 measurements.
    """
    left = tuple(layers)
    while len(left) > n:
        costs = {gone: divergence(tuple(each for each in left if each != gone)) for gone in left}
        dropped = sorted(left, key=lambda layer: costs[layer])[: max(1, (len(left) - n) // 3)]
        left = tuple(layer for layer in left if layer not in dropped)
    return left


def readout_divergence(
    target: PreTrainedModel, examples: Sequence[Example], token_ids: Tensor
) -> Callable[[Layers], float]:
    """Mean KL of an untrained draft of some layers with the readout that it does best with."""
    measured, fitted = examples[:_MEASURED], examples[_MEASURED:]
    validator = Validator(target, measured, _LENGTH)
    batch = next(shuffled_batches(fitted, tokens=_FITTED, length=_LENGTH, seed=0))

    def divergence(layers: Layers) -> float:
        draft = cut_draft(target, layers, token_ids[:_VOCAB])
        fit_readout(draft, [batch])
        return validator.validate(draft).divergence

    return divergence
