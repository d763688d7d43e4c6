"""The ops as Python calls them: torch's, with a signature, a docstring and errors that say enough.

`specbranch._C` makes its ops with `bind`; their schemas and docstrings stand in csrc/register.cpp.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import Argument, FunctionSchema

from specbranch import fakes

_TYPES: dict[str, Any] = {
    "Tensor": Tensor,
    "Optional[Tensor]": Tensor | None,
    "List[Tensor]": list[Tensor],
    "float": float,
    "int": int,
    "str": str,
}
_ERRORS = """

A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass."""


def bind(name: str, doc: str) -> Callable[..., Any]:
    """A function that calls the op `torch.ops.specbranch.NAME`."""
    op = getattr(torch.ops.specbranch, name).default
    schema: FunctionSchema = op._schema
    returns_nothing = not schema.returns
    if returns_nothing:
        fakes.register_nothing(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if (
            returns_nothing
            and torch.is_grad_enabled()
            and _requires_gradient((args, *kwargs.values()))
        ):
            _refuse_gradients(schema, args, kwargs)
        try:
            results = op(*args, **kwargs)
        except (RuntimeError, TypeError):
            _refuse_non_tensors(schema, args, kwargs)
            raise
        if not returns_nothing and torch.is_grad_enabled():
            _end_gradients(name, results)
        return results

    call.__name__ = call.__qualname__ = name
    call.__module__ = "specbranch._C"
    call.__doc__ = doc + _ERRORS
    call.__signature__ = _signature(schema)  # type: ignore[attr-defined]
    return call


def _signature(schema: FunctionSchema) -> inspect.Signature:
    parameters = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value
            if argument.has_default_value()
            else inspect.Parameter.empty,
            annotation=_TYPES[str(argument.type)],
        )
        for argument in schema.arguments
    ]
    results = [_TYPES[str(result.type)] for result in schema.returns]
    several = tuple[tuple(results)] if results else None  # type: ignore[misc]
    return inspect.Signature(
        parameters, return_annotation=results[0] if len(results) == 1 else several
    )


def _given(
    schema: FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[Argument, Any]]:
    """The arguments of a call, each with its value."""
    values = {a.name: value for a, value in zip(schema.arguments, args, strict=False)} | kwargs
    return [(a, values[a.name]) for a in schema.arguments if a.name in values]


def _refuse_non_tensors(
    schema: FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    for argument, value in _given(schema, args, kwargs):
        fits = {
            "Tensor": ("a tensor", isinstance(value, Tensor)),
            "Optional[Tensor]": ("a tensor or None", value is None or isinstance(value, Tensor)),
            "List[Tensor]": (
                "a list of tensors",
                isinstance(value, list | tuple) and all(isinstance(v, Tensor) for v in value),
            ),
        }
        wanted, is_right = fits.get(str(argument.type), ("", True))
        if not is_right:
            op = schema.name.removeprefix("specbranch::").removesuffix("_out")
            found = type(value).__name__
            raise ValueError(f"{op}: {argument.name}: expected {wanted}, got {found}")


def _requires_gradient(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, list | tuple) and any(map(_requires_gradient, value))


def _refuse_gradients(
    schema: FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Of an op that writes into tensors, whose results would be cut off in silence."""
    for argument, value in _given(schema, args, kwargs):
        if _requires_gradient(value):
            raise RuntimeError(
                f"{schema.name}: {argument.name} requires a gradient, but the op has none: "
                "detach the tensor or call it under torch.no_grad()"
            )


def _end_gradients(name: str, results: Any) -> None:
    """A backward pass that comes to the results fails."""

    def refuse(_: Tensor) -> None:
        raise RuntimeError(f"specbranch::{name} has no backward")

    for result in results if isinstance(results, tuple | list) else (results,):
        if result.requires_grad:
            result.register_hook(refuse)
