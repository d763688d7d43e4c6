"""Applies each mutant in a copy and says which ones no test catches: `make mutants`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import hypothesis  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import transformers.generation  # noqa: F401
import xdist.scheduler  # noqa: F401

from tests.mutation.mutants import KERNELS, REFERENCE, Mutant

ROOT = Path(__file__).parents[2]
COPY = ROOT / "build/mutants"
ENVIRONMENT = {
    **os.environ,
    **{"PYTHONPATH": str(COPY), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    **{"SPECBRANCH_CUDA": "0", "SPECBRANCH_CPU_DISPATCH": "native"},
}


def run(*command: str) -> int:
    done = subprocess.run(
        [sys.executable, *command], cwd=COPY, env=ENVIRONMENT, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    return done.returncode


def build() -> None:
    if run("setup.py", "-q", "build_ext", "--inplace") != 0:
        sys.exit("mutants: the copy does not compile")


def run_tests(tests: str) -> int:
    """pytest's exit code, in a child that has what takes long to import."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(COPY)
    os.environ.update(ENVIRONMENT)
    sys.path[:] = [str(COPY), *(path for path in sys.path if Path(path).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(pytest.main(["-qx", *(f"tests/ops/test_{name}.py" for name in tests.split())]))


def is_caught(tests: str) -> bool:
    """By a test that fails or a module that does not load; whatever else ends pytest is ours."""
    code = run_tests(tests)
    if code not in (0, 1, 2):
        sys.exit(f"mutants: pytest ended with {code}")
    return code != 0


def try_out(mutant: Mutant) -> bool:
    path = COPY / mutant.path
    text = path.read_text()
    if text.count(mutant.right) < 1:
        sys.exit(f"mutants: {mutant.path} has no {mutant.right!r}")
    try:
        path.write_text(text.replace(mutant.right, mutant.wrong))
        if mutant in KERNELS:
            build()
        return is_caught(mutant.tests)
    finally:
        path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=["reference", "kernels", "all"], default="all")
    parser.add_argument("--only", default="", help="a part of what is changed")
    options = parser.parse_args()
    chosen = {"reference": REFERENCE, "kernels": KERNELS, "all": [*REFERENCE, *KERNELS]}[options.of]
    chosen = [mutant for mutant in chosen if options.only in mutant.path + mutant.right]
    COPY.mkdir(parents=True, exist_ok=True)
    files = "git ls-files -z | tar --null -T - -cf - | tar -xf - -C"
    subprocess.run(f"{files} {COPY}", shell=True, check=True, cwd=ROOT)
    for mutant in KERNELS:  # a run that was cut short may have left it compiled as it was wrong
        (COPY / mutant.path).touch()
    build()
    everything = sorted({name for mutant in chosen for name in mutant.tests.split()})
    if is_caught(" ".join(everything)):
        sys.exit("mutants: tests fail without any")
    survivors = 0
    for mutant in chosen:
        start = time.monotonic()
        caught = try_out(mutant)
        survivors += not caught
        verdict = "caught" if caught else "SURVIVED"
        took = time.monotonic() - start
        print(
            f"{verdict:8} {took:4.0f} s  {mutant.path}: {mutant.right!r} -> {mutant.wrong!r}",
            flush=True,
        )
    build()
    print(f"{len(chosen) - survivors} caught, {survivors} survived")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
