"""A model's forward traced once and replayed without Python.

Two models that run at the same time in one process share the interpreter's lock, and a forward of
30 layers makes a thousand short calls that each give it up and want it back: on two cores of an AMD
EPYC, a draft step of SmolLM2-135M took 19.7 ms alone and 27.1 ms beside a target forward. Traced,
it takes 16.4 and 16.7 ms, since a replay holds the lock only at its ends. Flattened into one graph
it takes a sixth less again. What is computed is what the eager forward computes, in the same order,
so the results are the same to the bit.

A trace lives as long as what replays it. `torch.jit.trace` would keep it for good, with all tensors
in it: it registers the trace, and a type for each module, with the whole process.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.jit import TracerWarning, optimized_execution  # type: ignore[attr-defined]

# Catching warnings is global to the process.
_one_at_a_time = threading.Lock()

TORCH_FOLDER = Path(torch.__file__).parent


def traced(
    forward: nn.Module, inputs: tuple[Tensor, ...], state: Iterable[Tensor] = ()
) -> Callable[..., tuple[Tensor, ...]] | None:
    """Trace `forward` as it runs on `inputs`, for any number of rows.

    forward: from tensors to a tuple of tensors. What is put on the model later, such as hooks or
        adapters, is not seen by a replay; weights that are written in place are.
    state: tensors that it reads or writes beside its inputs and its modules' own.

    Returns a function of such inputs that keeps the trace, the modules' tensors and `state`. None
    if the forward cannot be traced, or if its Python looks at tensors' values, so that what it does
    next time may differ from what was traced.
    """
    if sys.version_info >= (3, 14):  # where torch.jit does not work
        return None
    held = (*_tensors_of(forward), *state)
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            replayed = _trace(forward, inputs, held)
        except Exception:  # the eager forward will raise what is not about tracing
            return None
    if _looks_at_values(caught):
        return None

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        with optimized_execution(False):
            outputs: tuple[Tensor, ...] = replayed(*inputs, *held)
            return outputs

    return replay


def _tensors_of(forward: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and what modules keep as plain attributes."""
    tensors = [*forward.parameters(), *forward.buffers()]
    for module in forward.modules():
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    return tensors


def _trace(
    forward: nn.Module, inputs: tuple[Tensor, ...], held: tuple[Tensor, ...]
) -> Callable[..., tuple[Tensor, ...]]:
    """A function of inputs and held tensors, in a compilation unit of its own.

    Tensors are arguments because the tracer would compare the values of those that it has to keep
    as constants, merge equal ones, and cannot keep packed ones at all.
    """
    with optimized_execution(False):
        graph, _ = torch._C._create_graph_by_tracing(
            lambda *given: forward(*given[: len(inputs)]),
            (*inputs, *held),
            lambda tensor: "",  # names of values
            True,  # strict about containers in the outputs
            False,  # in-place operations stay in place
        )
    with optimized_execution(True):  # torch inlines calls nowhere else
        _flatten(graph)
    return torch._C._create_function_from_graph("forward", graph)


def _flatten(graph: torch.Graph) -> None:
    """Make one graph of a call a layer, and let it look at each size once."""
    torch._C._jit_pass_inline(graph)
    torch._C._jit_pass_cse(graph)
    torch._C._jit_pass_dce(graph)


def _looks_at_values(caught: Iterable[warnings.WarningMessage]) -> bool:
    """Whether the model's own Python did; torch's layers look at sizes of weights only."""
    return any(
        issubclass(warning.category, TracerWarning)
        and TORCH_FOLDER not in Path(warning.filename).parents
        for warning in caught
    )
