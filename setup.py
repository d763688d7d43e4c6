"""Builds specbranch._C through CMakeLists.txt; everything else is in pyproject.toml.

SPECBRANCH_CUDA=0|1, SPECBRANCH_CPU_DISPATCH=native|all, TORCH_CUDA_ARCH_LIST and CUDA_HOME steer
the build; MAX_JOBS limits the compilers that run at once.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
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
        super().run()

    def build_extension(self, ext: Extension) -> None:
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        target_dir = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "Python3_EXECUTABLE": sys.executable,
            "Python_EXECUTABLE": sys.executable,
            "SPECBRANCH_VERSION": self.distribution.get_version(),
            "SPECBRANCH_CUDA": os.environ.get("SPECBRANCH_CUDA", "AUTO"),
            "SPECBRANCH_CPU_DISPATCH": os.environ.get("SPECBRANCH_CPU_DISPATCH", "native"),
            "SPECBRANCH_RPATH": self.rpath,
        }
        defines = [f"-D{name}={value}" for name, value in options.items()]
        jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
        self.cmake("-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja", *defines)
        self.cmake("--build", str(build_dir), *jobs)
        self.cmake("--install", str(build_dir), "--prefix", str(target_dir))

    def cmake(self, *arguments: str) -> None:
        try:
            subprocess.run(["cmake", *arguments], check=True)
        except subprocess.CalledProcessError as error:
            sys.exit(f"specbranch: cmake {arguments[0]} failed with code {error.returncode}")


setup(ext_modules=[Extension("specbranch._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
