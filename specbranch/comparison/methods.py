"""Which policy options belong to which method."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from specbranch.policies import find_policy, make_policy, option_names

Options = Mapping[str, int | float | bool | str]


def parse_methods(text: str) -> list[str]:
    """The methods of a comma-separated list, each once. Raises ValueError for an empty list."""
    methods = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not methods:
        raise ValueError(f"methods: expected names separated by commas, got {text!r}")
    return methods


def parse_option(text: str) -> tuple[str, int | float | bool | str]:
    """Name and value of `key=value`: a number or true or false where it reads as one, else text.

    Raises ValueError for anything else.
    """
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"option: expected key=value, got {text!r}")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            pass
    return name, {"true": True, "false": False}.get(value.lower(), value)


def options_by_method(methods: Sequence[str], options: Options) -> dict[str, Options]:
    """Give each method those of the options that it knows.

    Modules of policies are looked for in the working folder, too. Raises ValueError for an unknown
    method, for an option that no method knows, and for a value that a method refuses.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    known = {method: option_names(find_policy(method)) for method in methods}
    for name in options:
        if not any(name in names for names in known.values()):
            takes = "; ".join(
                f"{method} takes {', '.join(map(_flag, names)) or 'none'}"
                for method, names in known.items()
            )
            raise ValueError(f"{_flag(name)}: expected an option of the method, but {takes}")
    by_method: dict[str, Options] = {
        method: {name: options[name] for name in names if name in options}
        for method, names in known.items()
    }
    for method, chosen in by_method.items():
        make_policy(method, **chosen)
    return by_method


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
