"""Drafting policies: small objects that answer where to grow and what to submit."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from specbranch.policies.adaedl import AdaEDL
from specbranch.policies.auto import Auto
from specbranch.policies.autoregressive import Autoregressive
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst
from specbranch.policies.pearl import PEARL
from specbranch.policies.specbranch import SpecBranch
from specbranch.policies.sps import SpeculativeSampling
from specbranch.policies.ssd import SSD

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Autoregressive,
        SpeculativeSampling,
        AdaEDL,
        PEARL,
        SpecBranch,
        SSD,
        BestFirst,
        Auto,
    )
}


def make_policy(name: str, **options: Any) -> Policy:
    """The policy called `name` (ar, sps, adaedl, pearl, specbranch, ssd, bestfirst, auto), or one
    from elsewhere, `module:Class`.

    options: the constructor's. Raises ValueError for what is no policy, for an unknown option, and
    for a value that the policy refuses.
    """
    policy_class = find_policy(name)
    known = option_names(policy_class)
    for option in options:
        if option not in known:
            raise ValueError(f"{option}: expected an option of {name} ({', '.join(known)})")
    try:
        policy = policy_class(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    policy.name = name
    return policy


def find_policy(name: str) -> type[Policy]:
    """The class behind a name that `make_policy` takes."""
    if name in POLICIES:
        return POLICIES[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        wanted = f"one of {', '.join(POLICIES)}, or module:Class"
        raise ValueError(f"method: expected {wanted}, got {name!r}")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        raise ValueError(f"method: {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Policy)):
        raise ValueError(f"method: expected a subclass of Policy, got {name!r}, which is {found!r}")
    return found


def option_names(policy_class: type[Policy]) -> list[str]:
    """The options that a policy's constructor names."""
    parameters = inspect.signature(policy_class).parameters.values()
    return [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]


__all__ = [
    "PEARL",
    "POLICIES",
    "SSD",
    "AdaEDL",
    "Auto",
    "Autoregressive",
    "BestFirst",
    "Outcome",
    "Policy",
    "SpecBranch",
    "SpeculativeSampling",
    "find_policy",
    "make_policy",
    "option_names",
]
