"""The check of a CUDA machine, as far as it runs without one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import gpu_check, synthetic
from bench.gpu import GRAPH_WARM
from bench.gpu_check import Part, check, lines, read_junit
from bench.synthetic import measure

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def test_without_a_gpu_it_says_so_and_exits_with_a_code_of_its_own():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        ["bench/gpu_check.sh", "--out", "/nonexistent/never-written.json"],
        cwd=ROOT,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == gpu_check.NO_GPU
    assert "finds no GPU" in done.stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("times", [2, 4])
def test_the_twin_says_the_same_at_several_times_the_layers(dtype, times):
    small = synthetic.random_llama(synthetic.TINY, CPU, dtype)
    large = synthetic.costlier_twin(small, times)
    assert len(large.model.layers) == times * len(small.model.layers)
    ids = torch.arange(30)[None]
    with torch.inference_mode():
        assert torch.equal(small(ids).logits, large(ids).logits)
        assert not torch.equal(small(ids).logits, synthetic.noisy(small, 0.1)(ids).logits)


def test_the_twins_further_layers_do_work():
    large = synthetic.costlier_twin(synthetic.random_llama(synthetic.TINY, CPU, torch.float32), 2)
    behind = large.model.layers[1]
    zero = [name for name, weight in behind.named_parameters() if not weight.any()]
    assert sorted(zero) == ["mlp.down_proj.weight", "self_attn.o_proj.weight"]


def test_synthetic_decoding_compares_every_method_with_plain_decoding():
    found = measure(CPU, synthetic.TINY, torch.float32, new_tokens=6)
    assert found["synthetic"]
    methods = [row["method"] for row in found["rows"]]
    assert methods == 2 * ["ar", "sps", "pearl", "specbranch", "bestfirst"]
    assert all(row["identical_to_ar"] for row in found["rows"])
    assert all(row["acceptance_rate"] == 1 for row in found["rows"][1:3])
    json.dumps(found)


OPS = {
    "rows": [
        {
            "op": "compact_kv_",
            "model": "Llama-3.1-8B",
            "shape": "batch 1, moved 4",
            "params": {"batch": 1, "moved": 4},
            "seconds": {GRAPH_WARM: {"ours": {"median": 7e-6}}},
        },
        {
            "op": "verify_tree, greedy",
            "model": "Llama-3.1-8B",
            "shape": "batch 1, nodes 8",
            "params": {"batch": 1, "nodes": 8},
            "seconds": {GRAPH_WARM: {"ours": {"median": 9e-6}}},
        },
    ],
    "absent": {"x": "not installed"},
}


def writing(value: object) -> list[str]:
    return ["-c", f"import sys; open(sys.argv[1], 'w').write({json.dumps(value)!r})"]


def test_each_part_runs_whatever_became_of_the_others():
    parts = (
        Part("build", 60, lambda out: ["-c", "import sys; sys.exit('no compiler')"]),
        Part("ops", 60, lambda out: [*writing(OPS), str(out)]),
        Part("decoding", 1, lambda out: ["-c", "import time; time.sleep(30)"]),
        Part("tests", 60, lambda out: ["-c", "pass"]),
    )
    found = check(parts)
    json.dumps(found)
    assert found.keys() == {"missing_peers", "parts", "goals"}
    errors = {record["name"]: record["error"] for record in found["parts"]}
    assert errors["build"] == "no compiler\n"
    assert errors["ops"] is None
    assert errors["decoding"] == "stopped after 1 s"
    assert errors["tests"].startswith("no result")
    assert [record["ok"] for record in found["parts"]] == [False, True, False, False]
    assert found["missing_peers"] == ["x"]
    verdicts = [verdict for _, _, verdict in lines(found)]
    assert "ran" in verdicts
    assert "met" in verdicts
    assert "NOT met" in verdicts
    assert "not measured" in verdicts
    assert any(verdict.startswith("FAILED: no compiler") for verdict in verdicts)


def test_junit_reports_are_read(tmp_path):
    (tmp_path / "junit.xml").write_text(
        """<testsuites><testsuite>
        <testcase classname="a" name="fine"/>
        <testcase classname="a" name="left"><skipped message="needs two GPUs"/></testcase>
        <testcase classname="a" name="bad"><failure message="assert 1 == 2">...</failure></testcase>
        </testsuite></testsuites>"""
    )
    assert read_junit(tmp_path / "junit.xml") == {
        "passed": 1,
        "failed": 1,
        "skipped": ["needs two GPUs"],
        "failures": {"a::bad": "assert 1 == 2"},
    }


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("", "no test was found"),
        ('<testcase name="a"><skipped message="no GPU"/></testcase>', "all tests were .*: no GPU"),
    ],
)
def test_tests_that_did_not_run_are_no_result(tmp_path, cases, message):
    (tmp_path / "junit.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    with pytest.raises(ValueError, match=message):
        read_junit(tmp_path / "junit.xml")


def test_what_a_stopped_part_has_started_is_stopped_too(tmp_path):
    """A process that would write after a second, started by one that waits for it."""
    late = tmp_path / "late"
    child = f"import time; time.sleep(1); open({str(late)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(subprocess.TimeoutExpired):
        gpu_check.run_for(0.5, [sys.executable, "-c", parent])
    time.sleep(1)
    assert not late.exists()
