"""The benchmark of the ops, for function and not for time."""

from __future__ import annotations

import json

from bench import gpu
from bench.ops import cli
from bench.ops.case import EAGER, OURS


def test_every_op_is_measured_by_every_clock(tmp_path):
    out = tmp_path / "ops.json"
    assert cli.main(["--smoke", "--device", "cuda", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert len(record["rows"]) == 11
    assert record["environment"]["gpu"]
    for row in record["rows"]:
        assert row["seconds"].keys() == gpu.clocks().keys()
        for by_name in row["seconds"].values():
            assert by_name[OURS]["min"] > 0
        assert EAGER in row["speedup"], row["left_out"]
