"""The binary needs nothing but torch's C shim, Sleef, Python and the C and C++ runtimes."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from specbranch import _C

ALLOWED = re.compile(
    r"""
    (aoti_torch|torch)_[a-z]\w*             # torch's C shim
    | Sleef_\w+                             # called by at::vec, exported by libtorch_cpu
    | _?Py\w+                               # Python's C API
    | \w+@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+ # the C and C++ runtimes
    | _ITM_\w+ | __gmon_start__             # weak hooks of the toolchain
    """,
    re.VERBOSE,
)
LIBRARIES = re.compile(
    r"libtorch_cpu\.so | lib(stdc\+\+|m|gcc_s|c|dl|rt|pthread)\.so\.\d+ | ld-linux.*", re.VERBOSE
)


def output_of(tool: str, *arguments: str) -> str:
    path = shutil.which(tool)
    assert path, f"{tool} (binutils) is needed to look into the binary"
    return subprocess.run(
        [path, *arguments, _C.__file__], check=True, capture_output=True, text=True
    ).stdout


def test_undefined_symbols_are_the_stable_ones() -> None:
    symbols = [line.split()[-1] for line in output_of("nm", "-D", "--undefined-only").splitlines()]
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    assert [symbol for symbol in symbols if not ALLOWED.fullmatch(symbol)] == []


@pytest.mark.parametrize(
    "symbol",
    ["_ZN3c106detail14torchCheckFailEPKcS2_jS2_", "_ZNK2at10TensorBase5sizesEv", "cudaMalloc"],
)
def test_symbols_of_torch_and_cuda_would_be_noticed(symbol: str) -> None:
    assert not ALLOWED.fullmatch(symbol)


def test_needed_libraries_are_there_beside_any_torch() -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output_of("readelf", "-d"))
    assert "libtorch_cpu.so" in needed
    assert [library for library in needed if not LIBRARIES.fullmatch(library)] == []


def test_only_the_module_is_exported() -> None:
    defined = output_of("nm", "-D", "--defined-only").splitlines()
    assert [line.split()[-1] for line in defined] == ["PyInit__C"]
