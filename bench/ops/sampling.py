"""`sampling_probs`, `sample` and `draft_topk`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench import floors
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, OURS, Case, Way
from bench.ops.inputs import ints, workspace
from bench.ops.laws import (
    NO_FILTER,
    Filter,
    eager_draw,
    eager_law,
    random_logits,
    sampling_params,
)
from specbranch import ops


@dataclass(frozen=True, slots=True)
class Rows:
    """logits [R, V]; temperature 1."""

    logits: Tensor
    kept: Filter

    def laws(self) -> tuple[Tensor, ...]:
        return sampling_params(len(self.logits), 1.0, self.kept, self.logits.device)

    def draws(self) -> tuple[Tensor, ...]:
        """Laws, seeds and positions."""
        rows, device = len(self.logits), self.logits.device
        seed = torch.full((rows,), 7, device=device)
        return (*self.laws(), seed, ints(device, range(100, 100 + rows)))


def _case(
    op: str,
    model: Model,
    dtype: torch.dtype,
    params: dict[str, int],
    kept: Filter,
    work: floors.Work,
    *ways: Way[Rows],
) -> Case:
    rows = params["rows"]
    return Case(
        op=op,
        model=model.name,
        params={**params, "vocab": model.vocab, **kept.params()},
        dtype=dtype,
        work=work,
        memory=rows * model.vocab * dtype.itemsize,
        inputs=lambda device: Rows(random_logits(device, dtype, rows, model.vocab), kept),
        ways=ways,
    )


def _eager_memory(rows: int, vocab: int) -> int:
    """Of a chain's intermediate results."""
    return 6 * 4 * rows * vocab


def sampling_probs(model: Model, dtype: torch.dtype, rows: int, kept: Filter = NO_FILTER) -> Case:
    memory = _eager_memory(rows, model.vocab)
    return _case(
        "sampling_probs",
        model,
        dtype,
        {"rows": rows},
        kept,
        floors.sampling_probs(rows=rows, vocab=model.vocab, element_size=dtype.itemsize),
        Way(OURS, "ours", _sampling_probs, 4 * rows * model.vocab),
        Way(EAGER, "eager", lambda x: lambda: eager_law(x.logits, x.kept), memory),
    )


def _sampling_probs(x: Rows) -> Call:
    inputs, scratch = x.laws(), workspace(x.logits.device)
    probs = torch.empty_like(x.logits, dtype=torch.float32)

    def call() -> Tensor:
        ops.sampling_probs_out(x.logits, *inputs, probs, scratch)
        return probs

    return call


def sample(model: Model, dtype: torch.dtype, rows: int, kept: Filter = NO_FILTER) -> Case:
    def eager(x: Rows) -> Call:
        return lambda: eager_draw(eager_law(x.logits, x.kept))

    return _case(
        "sample",
        model,
        dtype,
        {"rows": rows},
        kept,
        floors.sample(rows=rows, vocab=model.vocab, element_size=dtype.itemsize),
        Way(OURS, "ours", _sample),
        Way(EAGER, "eager", eager, _eager_memory(rows, model.vocab)),
    )


def _sample(x: Rows) -> Call:
    inputs, scratch = x.draws(), workspace(x.logits.device)
    ids = ints(x.logits.device, [0] * len(x.logits))

    def call() -> Tensor:
        ops.sample_out(x.logits, *inputs, None, ids, scratch)
        return ids

    return call


def draft_topk(coupling: str, model: Model, dtype: torch.dtype, rows: int, k: int) -> Case:
    def ours(x: Rows) -> Call:
        inputs, scratch = x.draws(), workspace(x.logits.device)
        ids = torch.empty(rows, k, dtype=torch.int32, device=x.logits.device)
        estimates = torch.empty(rows, k, device=x.logits.device)
        max_prob, entropy = torch.empty(2, rows, device=x.logits.device)
        results = ids, estimates, max_prob, entropy

        def call() -> tuple[Tensor, ...]:
            ops.draft_topk_out(x.logits, k, *inputs, coupling, None, *results, scratch)
            return results

        return call

    def eager(x: Rows) -> Call:
        """softmax, noise, topk and entropy."""

        def call() -> tuple[Tensor, ...]:
            logits = x.logits.float()
            log_law = logits.log_softmax(-1)
            law = log_law.exp()
            noisy = logits - torch.empty_like(logits).exponential_().log()
            ids = noisy.topk(k).indices
            estimates = (noisy.softmax(-1) if coupling == "gumbel" else law).gather(1, ids)
            return ids, estimates, law.amax(-1), -(law * log_law).sum(-1)

        return call

    return _case(
        f"draft_topk, {coupling}",
        model,
        dtype,
        {"rows": rows, "k": k},
        NO_FILTER,
        floors.draft_topk(rows=rows, vocab=model.vocab, k=k, element_size=dtype.itemsize),
        Way(OURS, "ours", ours),
        Way(EAGER, "eager", eager, _eager_memory(rows, model.vocab)),
    )
