"""Reading a model and its tokenizer from files that may be anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from specbranch.loading.gguf import load_blocks, load_dequantized

SHOWN = 300  # characters of another library's message


@contextmanager
def loading(role: str, name: str) -> Iterator[None]:
    """Whatever a file that is no model makes libraries raise becomes a ValueError that says which
    model it is. A package that is missing is told as it is."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        reason = f"{kind}{error}"
        shown = reason if len(reason) <= SHOWN else reason[:SHOWN] + " ..."
        raise ValueError(f"{role}: cannot load {name!r}: {shown}") from error


def _require_all_weights(info: dict[str, Any]) -> None:
    """Raise ValueError if parts of a model were not in its files: they would be random numbers.

    info: what `from_pretrained` tells.
    """
    missing = sorted(info["missing_keys"])
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(
            f"expected weights for all of the model, got none for {missing[0]}{others}"
        )


def read_gguf(
    path: Path, dtype: torch.dtype, keep_blocks: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """keep_blocks: multiply by them as they are."""
    model = (load_blocks if keep_blocks else load_dequantized)(path, dtype)
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def read_folder(
    source: str | Path, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Of a local folder or a hub id."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=dtype,
        # Straight to a GPU, for the host may not hold it.
        device_map=None if device.type == "cpu" else {"": device},
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, info = loaded
    _require_all_weights(info)
    return model, AutoTokenizer.from_pretrained(source, trust_remote_code=False)
