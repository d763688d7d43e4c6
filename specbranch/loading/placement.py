"""Where the models of a pair run, in which dtype, and with which draft if none is named."""

from __future__ import annotations

import warnings

import torch

from specbranch import _C
from specbranch.loading.quantized import WEIGHTS

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def default_device(weights: str | None = None) -> str:
    """cuda where there is a GPU, and weights that it can multiply; else cpu. Warns where nothing
    but the build keeps a GPU from being used."""
    if weights in WEIGHTS or not torch.cuda.is_available():
        return "cpu"
    if _C.build_info()["cuda"]:
        return "cuda"
    warnings.warn(f"all runs on cpu, though there is a GPU: {_NO_KERNELS}", stacklevel=2)
    return "cpu"


def default_draft(target: str, weights: str | None, device: torch.device) -> str:
    """A draft for a target with such weights, that runs on this device if there is one. A GPU does
    not multiply in few bits."""
    if target == "builtin:smollm2" and device.type == "cuda":
        return "builtin:smollm2-draft"
    if target == "builtin:smollm2" and weights == "q4":
        return "builtin:smollm2-draft-10"
    return "self:int4"


def default_draft_device(
    draft: str, weights: str | None, target_device: torch.device
) -> torch.device:
    """The target's, unless the draft's matrices are in few bits."""
    few_bits = draft.startswith("self:") or weights in WEIGHTS
    return torch.device("cpu") if few_bits else target_device


def default_dtype(device: torch.device) -> torch.dtype:
    """For a target there: tensor cores multiply no float32."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def check_device(name: str, device: str | torch.device) -> torch.device:
    """Raises ValueError for a device that this machine, torch or build lacks."""
    try:
        checked = torch.device(device)
    except RuntimeError:
        checked = None
    if checked is None or checked.type not in ("cpu", "cuda"):
        raise ValueError(f"{name}: expected cpu, cuda or cuda:n, got {device}")
    if checked.type == "cpu":
        return checked
    if not torch.backends.cuda.is_built():
        raise ValueError(f"{name}: {checked} needs a CUDA build of torch, got {torch.__version__}")
    if not torch.cuda.is_available():
        raise ValueError(f"{name}: {checked} needs a GPU, and torch finds none")
    if not _C.build_info()["cuda"]:
        raise ValueError(f"{name}: {checked} cannot be used: {_NO_KERNELS}")
    # What models and tensors there call it.
    return torch.device(
        "cuda", torch.cuda.current_device() if checked.index is None else checked.index
    )


def check_dtype(dtype: str | torch.dtype) -> torch.dtype:
    checked = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if checked is None or checked not in DTYPES.values():
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype}")
    return checked


_NO_KERNELS = (
    "specbranch was built without CUDA kernels; build it again where nvcc is found (CUDA_HOME, "
    "PATH or /usr/local/cuda), SPECBRANCH_CUDA=1 makes it a must"
)
