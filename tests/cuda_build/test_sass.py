from __future__ import annotations

import re
from collections import Counter

import pytest

from specbranch import build_info
from tests.cuda_build import ptxas, sass

needs_sass = pytest.mark.skipif(
    not ptxas.reports() or sass.find_cuobjdump() is None,
    reason="CUDA kernels in the extension and cuobjdump are needed "
    "(PyPI: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm)",
)
on_each_architecture = pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])


def kernels_of(source_part: str, architecture: str) -> dict[str, Counter[str]]:
    """The kernels of the sources whose path has that part."""
    if architecture.removeprefix("sm_") not in re.findall(r"\d+", build_info()["cuda_archs"]):
        pytest.skip(f"this build was asked for other architectures than {architecture}")
    objects = [r.with_suffix("") for r in ptxas.reports() if source_part in str(r)]
    assert objects
    return {k: ops for o in objects for k, ops in sass.opcodes(o, architecture).items()}


def number_of(found: Counter[str], *parts: str) -> int:
    """Instructions whose opcode has all of the parts, as in LDG.E.128."""
    return sum(n for op, n in found.items() if set(parts) <= set(op.split(".")))


@needs_sass
@on_each_architecture
@pytest.mark.parametrize("source", ["append_kv", "compact_kv"])
def test_wide_copies_move_16_bytes_at_once(source, architecture):
    kernels = kernels_of(f"kv_cache/cuda/{source}", architecture)
    wide = {name: found for name, found in kernels.items() if "uint4" in name}
    assert wide
    for name, found in wide.items():
        assert number_of(found, "LDG", "128"), name
        assert number_of(found, "STG", "128"), name


@needs_sass
@on_each_architecture
@pytest.mark.parametrize("source", ["add_rms_norm", "gated_activation", "rope_append_kv"])
def test_steps_of_a_layer_move_16_bytes_at_once(source, architecture):
    """And nothing lives in local memory; every other kernel is that for single elements."""
    kernels = kernels_of(f"forward/cuda/{source}", architecture)
    wide = [name for name, found in kernels.items() if number_of(found, "STG", "128")]
    assert len(wide) == len(kernels) / 2
    for name, found in kernels.items():
        assert number_of(found, "LDG", "128") if name in wide else True, name
        assert not number_of(found, "LDL"), name
        assert not number_of(found, "STL"), name


@needs_sass
@on_each_architecture
def test_attention_multiplies_on_tensor_cores_what_it_copied_asynchronously(architecture):
    kernels = kernels_of("attention/mma_hdim", architecture)
    assert kernels
    for name, found in kernels.items():
        assert number_of(found, "HMMA", "16816", "F32"), name
        assert number_of(found, "LDGSTS", "128"), name
        assert number_of(found, "LDSM", "4"), name
        assert not number_of(found, "LDL"), name
        assert not number_of(found, "STL"), name


@needs_sass
@on_each_architecture
@pytest.mark.parametrize(
    "source",
    [
        "sampling/cuda/sample.cu",
        "sampling/cuda/draft_topk",
        "sampling/cuda/sampling_probs",
        "verify/cuda/verify",
    ],
)
def test_a_lane_has_four_loads_of_four_logits_under_way(source, architecture):
    kernels = kernels_of(source, architecture)
    assert kernels
    for name, found in kernels.items():
        vector = "128" if "IfE" in name else "64"  # of float, or of 16 bits
        assert number_of(found, "LDG", vector) >= 4, name
        assert not number_of(found, "LDL"), name
        assert not number_of(found, "STL"), name


def test_the_listing_is_read_right():
    listing = """
                Function : _Z4copyPi
        .headerflags    @"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;              /* 0x0a00ff017b82 */
                                                                       /* 0x000fe2000000 */
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;    /* 0x000402048981 */
        /*0020*/                   EXIT ;                              /* 0x00000000794d */
"""
    assert sass.parse(listing) == {"_Z4copyPi": {"LDC": 1, "LDG.E.128": 1, "EXIT": 1}}
