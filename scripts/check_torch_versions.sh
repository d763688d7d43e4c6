#!/usr/bin/env bash
# Release check: one wheel, built once, runs its ops under every torch that we promise.
#   scripts/check_torch_versions.sh dist/specbranch-*.whl [versions...]
# Needs PyPI and about 6 GB of disk for a CUDA build of torch; environments go to a temporary folder.
set -euo pipefail
wheel=$(realpath "$1")
shift
versions=("$@")
if [ ${#versions[@]} -eq 0 ]; then
  versions=(2.11.0 2.12.0 2.13.0 2.14.1)
fi

check=$(cat <<'PY'
import torch
import specbranch._C as C

parents = torch.tensor([[-1, 0, 0, 1]], dtype=torch.int32)
n_nodes, row_indptr = torch.tensor([4]).int(), torch.tensor([0, 4]).int()
mask, depth = C.tree_mask(parents, n_nodes, row_indptr, 4)
assert mask.flatten().tolist() == [1, 3, 5, 11] and depth.tolist() == [0, 1, 1, 2]
try:
    C.tree_mask(parents.long(), n_nodes, row_indptr, 4)
except ValueError as error:
    assert "tree_mask: parents" in str(error)
else:
    raise AssertionError("a bad dtype passed")
print(torch.__version__, "ok")
PY
)

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
for version in "${versions[@]}"; do
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install -q "torch==$version" numpy
  "$venv/bin/pip" install -q --no-deps "$wheel"
  (cd "$venv" && bin/python -c "$check")
done
