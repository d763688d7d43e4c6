from __future__ import annotations

import re

import pytest

from specbranch import build_info
from tests.cuda_build import ptxas

needs_cuda_build = pytest.mark.skipif(
    not ptxas.reports(), reason="the extension was built without CUDA kernels"
)
ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
MAX_STATIC_SHARED = 48 << 10


@pytest.fixture(scope="module")
def usages() -> list[ptxas.Usage]:
    return ptxas.usages()


@needs_cuda_build
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_source_has_kernels(architecture):
    if architecture.removeprefix("sm_") not in re.findall(r"\d+", build_info()["cuda_archs"]):
        pytest.skip(f"this build was asked for other architectures than {architecture}")
    for report in ptxas.reports():
        if "multiprocessors" in report.name:
            continue  # only asks the device
        kernels = ptxas.parse(report.read_text())
        assert any(u.architecture == architecture for u in kernels), ptxas.source_of(report)


@needs_cuda_build
def test_nothing_spills_and_nothing_lives_in_local_memory(usages):
    assert not [u for u in usages if u.stack or u.spill_stores or u.spill_loads]


@needs_cuda_build
def test_shared_memory_of_fixed_size_fits_everywhere(usages):
    assert not [u for u in usages if u.shared > MAX_STATIC_SHARED]


REGISTERS = {
    "tree_mask_kernel": 32,
    "append_kv_kernel": 32,
    "rope_append_kv_kernel": 48,
    "add_rms_norm_kernel": 32,
    "gated_activation_kernel": 32,
    "compact_kv_kernel": 80,
    "branch_attention_kernel": 255,
    "branch_attention_plain_kernel": 128,
    "sample_kernel": 128,
    "sampling_probs_kernel": 128,
    "draft_topk_kernel": 128,
    "verify_gumbel_kernel": 128,
    "verify_rejection_kernel": 128,
}
"""Of a thread at most: with 32, 2048 threads are resident; with 48, 1280; with 80, 768; with 128,
512; with 255, 256."""


@needs_cuda_build
@pytest.mark.parametrize("kernel", REGISTERS)
def test_enough_threads_stay_resident(usages, kernel):
    found = [u for u in usages if re.search(rf"\b{kernel}\b", u.kernel)]
    assert found
    assert not [u for u in found if u.registers > REGISTERS[kernel]]


def test_the_report_is_read_right():
    report = """ptxas info    : Compiling entry function '_Z4copyi' for 'sm_80'
ptxas info    : Function properties for _Z4copyi
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 768 bytes smem, 376 bytes cmem[0]
"""
    assert ptxas.parse(report) == [ptxas.Usage("sm_80", "copy(int)", 22, 16, 8, 4, 768)]
