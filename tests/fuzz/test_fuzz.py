"""The fuzzer sees what it is made for, and a short run finds nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests.fuzz.__main__ import fuzz
from tests.fuzz.arguments import changed
from tests.fuzz.child import OPS
from tests.ops.calls import CALLS

BEYOND = """
import ctypes, torch
from tests.fuzz.guarded import Arena
t = Arena().place(torch.zeros(5, 3, dtype=torch.int32)[:, :2], at_end={at_end})
ctypes.string_at(t.data_ptr(), 4 * 14)
print("within", flush=True)
ctypes.string_at(t.data_ptr() + {offset}, 1)
"""


@pytest.mark.parametrize(("at_end", "offset"), [(True, 4 * 14), (False, -1)])
def test_a_read_beyond_a_tensor_dies(at_end, offset):
    code = BEYOND.format(at_end=at_end, offset=offset)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("within\n", -11)


def test_every_op_is_fuzzed_and_a_case_repeats_itself():
    assert sorted(CALLS) == OPS
    for name in OPS:
        once, again = changed(name, (1, 2, 3)), changed(name, (1, 2, 3))
        assert repr(once) == repr(again)


def test_a_fault_is_found(monkeypatch):
    from tests.fuzz import child

    def forgetful(**arguments):
        if arguments["position"].shape[0] != 2:
            raise RuntimeError("a check is missing")

    monkeypatch.setattr(child._C, "sample", forgetful)
    torch.manual_seed(0)
    assert any(child.run(("sample", (seed,)))[1] for seed in range(200))


@pytest.mark.long
def test_a_short_run_finds_nothing():
    *faults, ran = fuzz(cases=8000, seconds=60, seed=1)
    assert faults == []
    assert ran > 100
