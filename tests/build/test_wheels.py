"""What each distribution holds, and what an installation of the ops alone can do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from setuptools.config.pyprojecttoml import read_configuration

from specbranch.loading import builtin

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys
class Blocked:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked)
"""


def project() -> dict:
    return read_configuration(ROOT / "pyproject.toml", expand=False)["project"]


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter that has what the ops need, and no more of our extras."""
    extras = project()["optional-dependencies"]
    wanted = [each for extra in ("hf", "cli", "serve", "grammar") for each in extras[extra]]
    names = {each.split(">")[0].replace("-", "_") for each in wanted if "[" not in each}
    command = [sys.executable, "-c", BLOCKED.format(names=names) + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_ops_need_torch_and_numpy_alone() -> None:
    assert [each.split(">")[0] for each in project()["dependencies"]] == ["torch", "numpy"]
    done = without_extras(
        "import specbranch._C, specbranch.ops, specbranch.reference, specbranch\n"
        "specbranch.build_info(), specbranch.SamplingParams()\n"
        "import runpy; runpy.run_path('examples/engine_ops.py', run_name='__main__')"
    )
    assert done.returncode == 0, done.stderr
    assert "accepted nodes" in done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import specbranch; specbranch.Engine",
            "specbranch.Engine: transformers is not installed: pip install 'specbranch[hf]'",
        ),
        (
            "import specbranch.cli",
            "specbranch: typer is not installed: pip install 'specbranch[cli]'",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_brings_it(code: str, said: str) -> None:
    done = without_extras(code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {said}"


def copied(source: str, target: str) -> None:
    """Weights stay behind: their names are enough."""
    if source.endswith(".safetensors"):
        Path(target).touch()
    else:
        shutil.copy(source, target)


def wheel_of(sources: Path, place: Path) -> list[str]:
    """The files of the wheel that is built from a copy, without the extension."""
    others = shutil.ignore_patterns(*(".git", ".venv*", "build", "csrc", "tests", "bench", "*.so"))
    shutil.copytree(sources, place / "sources", ignore=others, copy_function=copied)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "SPECBRANCH_EXTENSION": "0"}
    subprocess.run([*pip, "-w", place, place / "sources"], check=True, env=environment)
    (wheel,) = place.glob("*.whl")
    return ZipFile(wheel).namelist()


def test_the_wheel_holds_the_package_without_the_drafts(tmp_path: Path) -> None:
    names = set(wheel_of(ROOT, tmp_path))
    assert {"specbranch/page.html", "specbranch/py.typed", "specbranch/_C.pyi"} <= names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "specbranch").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert not [name for name in names if name.startswith("specbranch/weights")]


def test_the_drafts_have_a_wheel_that_lies_where_they_are_looked_for(tmp_path: Path) -> None:
    names = wheel_of(ROOT / "specbranch/weights", tmp_path)
    for folder in builtin._BUILTIN_DRAFTS.values():
        place = folder.relative_to(ROOT).as_posix()
        held = {Path(name).name for name in names if name.startswith(f"{place}/")}
        assert {"draft.safetensors", "draft.json", "NOTICE", "README.md"} <= held


def test_a_draft_that_is_not_installed_is_said_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(builtin._BUILTIN_DRAFTS, "smollm2-draft", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"not installed[^$]*-m pip install \./specbranch/weights"):
        builtin.builtin_folder("smollm2-draft")
