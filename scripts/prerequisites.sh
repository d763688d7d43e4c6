#!/usr/bin/env bash
# Says what a build needs and this machine lacks, and the line that installs it on Debian or Ubuntu.
#   scripts/prerequisites.sh [PYTHON]
python=${1:-python3}
missing=() packages=()

lacks() {
  missing+=("$1") packages+=("$2")
}

python_has() {
  "$python" -c "$1" >/dev/null 2>&1
}

if ! python_has 'import sys; assert sys.version_info >= (3, 10)'; then
  lacks "Python 3.10 or newer ($python)" "python3 python3-dev python3-venv"
else
  python_has 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ||
    lacks "Python's headers (Python.h)" python3-dev
  python_has 'import venv, ensurepip' || lacks "virtual environments (ensurepip)" python3-venv
fi
echo 'int main() { return [](auto... x) requires true { return sizeof...(x); }(); }' |
  "${CXX:-c++}" -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1 ||
  lacks "a C++20 compiler (${CXX:-c++})" g++
command -v git >/dev/null || lacks git git

if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}" >&2
  echo "on Debian or Ubuntu: sudo apt-get install -y ${packages[*]}" >&2
  exit 1
fi
