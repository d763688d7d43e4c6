"""llama.cpp on a target's GGUF file, as shipped or requantised."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

from specbranch.loading.builtin import builtin_gguf

FORMATS = {"Q4_1": 3, "Q4_0": 2, "F32": 0}
"""llama.cpp's numbers of file types. It repacks Q4_0 as it loads, which makes it its fastest."""
FOLDER = Path("build/llama")


def is_installed() -> bool:
    """Whether llama-cpp-python is here."""
    return importlib.util.find_spec("llama_cpp") is not None


def gguf_of(target: str) -> Path:
    """The file that a target is. Raises ValueError for one that is none."""
    if target.endswith(".gguf"):
        return Path(target)
    if not target.startswith("builtin:"):
        raise ValueError(f"target: expected a .gguf file or a built-in model, got {target}")
    return builtin_gguf(target.removeprefix("builtin:"))


def in_format(path: Path, name: str) -> Path:
    """The file itself if it is called by this format, or what llama.cpp makes of it, kept."""
    import llama_cpp

    if name in path.name:
        return path
    made = FOLDER / f"{path.stem.split('.')[0]}.{name}.gguf"
    if not made.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(".part")
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = FORMATS[name], True
        files = (str(path).encode(), str(unfinished).encode())
        if llama_cpp.llama_model_quantize(*files, ctypes.byref(params)) != 0:
            raise RuntimeError(f"llama.cpp did not turn {path} into {name}")
        unfinished.rename(made)
    return made


def files(target: str) -> dict[str, Path]:
    """The target in each format; none where llama-cpp-python is not installed or there is no
    file."""
    if not is_installed():
        return {}
    try:
        path = gguf_of(target)
    except ValueError:
        return {}
    return {name: in_format(path, name) for name in FORMATS}


def load(path: Path, threads: int, context: int, **options: Any) -> Any:
    """llama.cpp with a file. threads: of its forwards. context: tokens that its cache holds."""
    import llama_cpp

    return llama_cpp.Llama(
        str(path),
        n_ctx=context,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
        **options,
    )
