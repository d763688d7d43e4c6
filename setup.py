"""Builds specbranch._C through CMakeLists.txt; everything else is in pyproject.toml.

SPECBRANCH_CUDA=0|1, SPECBRANCH_CPU_DISPATCH=native|all, TORCH_CUDA_ARCH_LIST and CUDA_HOME steer
the build; MAX_JOBS limits the compilers that run at once. SPECBRANCH_EXTENSION=0 installs the
Python part alone, for `setup.py build_ext --inplace` to compile the extension later.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def torch_lib_dir() -> str:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit("specbranch: torch is needed to build: pip install torch==2.13.0")
    return str(Path(spec.origin).parent / "lib")


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the place of the extension."""

    def run(self) -> None:
        # setuptools clears `inplace` while it builds, so the question is asked here.
        self.rpath = torch_lib_dir() if self.inplace else "$ORIGIN/../torch/lib"
        # pip's cmake and ninja lie beside the interpreter, which need not be on PATH.
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
        self.environment = {**os.environ, "PATH": path}
        super().run()

    def build_extension(self, ext: Extension) -> None:
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        target_dir = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        ninja = shutil.which("ninja", path=self.environment["PATH"])
        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "CMAKE_MAKE_PROGRAM": ninja or "ninja",
            "Python_EXECUTABLE": sys.executable,
            "SPECBRANCH_VERSION": self.distribution.get_version(),
            "SPECBRANCH_CUDA": os.environ.get("SPECBRANCH_CUDA", "AUTO"),
            "SPECBRANCH_CPU_DISPATCH": os.environ.get("SPECBRANCH_CPU_DISPATCH", "native"),
            "SPECBRANCH_RPATH": self.rpath,
        }
        defines = [f"-D{name}={value}" for name, value in options.items()]
        build_dir.mkdir(parents=True, exist_ok=True)
        with open(build_dir / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds in one folder would trip over each other
            self.cmake_build(build_dir, target_dir, defines)

    def cmake_build(self, build_dir: Path, target_dir: Path, defines: list[str]) -> None:
        jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
        self.cmake("-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja", *defines)
        self.cmake("--build", str(build_dir), *jobs)
        self.cmake("--install", str(build_dir), "--prefix", str(target_dir))

    def cmake(self, *arguments: str) -> None:
        try:
            subprocess.run(["cmake", *arguments], check=True, env=self.environment)
        except subprocess.CalledProcessError as error:
            sys.exit(f"specbranch: cmake {arguments[0]} failed with code {error.returncode}")


with_extension = os.environ.get("SPECBRANCH_EXTENSION") != "0" or "build_ext" in sys.argv
setup(
    ext_modules=[Extension("specbranch._C", sources=[])] if with_extension else [],
    cmdclass={"build_ext": CMakeBuild},
)
