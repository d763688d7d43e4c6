"""SpecBranch: branch-parallel speculative decoding with exact output.

The public names load what they need at first use, so that importing the package is cheap. The ops
are in `specbranch.ops`; other engines import them as `specbranch._C`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from specbranch.extras import needs

if TYPE_CHECKING:
    from specbranch.adapters.transformers import generate as generate
    from specbranch.engine import Engine as Engine
    from specbranch.generation import Generation as Generation
    from specbranch.generation import GenerationStream as GenerationStream
    from specbranch.info import build_info as build_info
    from specbranch.lanes import LaneError as LaneError
    from specbranch.loading.pair import ModelPair as ModelPair
    from specbranch.loading.pair import load_pair as load_pair
    from specbranch.logprobs import TokenLogprobs as TokenLogprobs
    from specbranch.policies import Policy as Policy
    from specbranch.policies import make_policy as make_policy
    from specbranch.request import Chunk as Chunk
    from specbranch.sampling import SamplingParams as SamplingParams
    from specbranch.sources import Source as Source

_HOME = {
    "Chunk": "specbranch.request",
    "Engine": "specbranch.engine",
    "Generation": "specbranch.generation",
    "GenerationStream": "specbranch.generation",
    "LaneError": "specbranch.lanes",
    "ModelPair": "specbranch.loading.pair",
    "Policy": "specbranch.policies",
    "SamplingParams": "specbranch.sampling",
    "Source": "specbranch.sources",
    "TokenLogprobs": "specbranch.logprobs",
    "build_info": "specbranch.info",
    "generate": "specbranch.adapters.transformers",
    "load_pair": "specbranch.loading.pair",
    "make_policy": "specbranch.policies",
}
__all__ = sorted(_HOME)

OLDEST_TORCH = (2, 11)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _refuse_old_torch() -> None:
    """Says what is wrong in words, where the binary would say `undefined symbol`."""
    torch = sys.modules.get("torch")
    found = torch.__version__ if torch else _installed("torch")
    numbers = found.split(".")[:2]
    if all(part.isdigit() for part in numbers) and tuple(map(int, numbers)) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(
            f"specbranch needs torch {oldest} or newer, but torch {found} is installed"
        )


def _refuse_unbuilt() -> None:
    """A source folder hides an installed package when Python starts in it."""
    if find_spec("specbranch._C") is None:
        raise ImportError(
            f"specbranch: {__path__[0]} is a source folder that was not built: run `make build` in "
            "it, or, if specbranch is installed, start Python in another folder"
        )


class _TorchFirst:
    """Imports torch before the binary, whose own path to libtorch leads nowhere where the two lie
    in different folders, as in an environment over another one."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "specbranch._C":
            sys.meta_path.remove(_TorchFirst)
            import_module("torch")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs("hf", f"specbranch.{name}"):
        globals()[name] = value = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__version__ = _installed("specbranch")
_refuse_old_torch()
_refuse_unbuilt()
sys.meta_path.insert(0, _TorchFirst)
