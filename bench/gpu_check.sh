#!/bin/sh
# Builds, tests and measures on a CUDA machine, in 10 minutes and without a network:
#   bench/gpu_check.sh [--out FILE.json]
# Exits 0 if every part ran, 1 if one failed, 3 where there is no GPU. PYTHON=path picks the Python.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; else PYTHON=python3; fi
fi
exec "$PYTHON" -m bench.gpu_check "$@"
