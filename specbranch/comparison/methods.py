"""Which policy options belong to which method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from specbranch.policies import POLICIES, make_policy

Options = Mapping[str, int | float]


def parse_methods(text: str) -> list[str]:
    """The methods of a comma-separated list, each once. Raises ValueError for an empty list."""
    methods = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not methods:
        raise ValueError(f"methods: expected names separated by commas, got {text!r}")
    return methods


def options_by_method(methods: Sequence[str], options: Options) -> dict[str, Options]:
    """Give each method those of the options that it knows.

    Raises ValueError for an unknown method, for an option that no method knows, and for a value
    that a method refuses.
    """
    known = {method: _parameters(method) for method in methods}
    for name in options:
        if not any(name in parameters for parameters in known.values()):
            takes = "; ".join(
                f"{method} takes {', '.join(map(_flag, parameters)) or 'none'}"
                for method, parameters in known.items()
            )
            raise ValueError(f"{_flag(name)}: expected an option of the method, but {takes}")
    by_method: dict[str, Options] = {
        method: {name: options[name] for name in parameters if name in options}
        for method, parameters in known.items()
    }
    for method, chosen in by_method.items():
        make_policy(method, **chosen)
    return by_method


def _parameters(method: str) -> list[str]:
    if method not in POLICIES:
        raise ValueError(f"method: expected one of {', '.join(POLICIES)}, got {method!r}")
    return [
        name
        for name, parameter in inspect.signature(POLICIES[method]).parameters.items()
        if isinstance(parameter.default, int | float)
    ]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
