"""`python -m bench.ops`, as far as it runs without a GPU and without a clock being right."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench import gpu
from bench.floors import Heads, Work
from bench.measure import Product, Timing, alone, take_turns
from bench.models import MODELS, Model
from bench.ops import cli
from bench.ops.attention import EXPANDED, attention
from bench.ops.case import EAGER, OURS
from bench.ops.report import columns, markdown
from bench.ops.run import (
    COPY,
    PRODUCT,
    Bench,
    absent_from,
    disturbed,
    measure,
    ratios,
    shares,
)
from bench.ops.selection import SIZES, label, select
from tests.threads import one_thread

__all__ = ["one_thread"]

CPU = torch.device("cpu")
FP32 = torch.float32
SMALL = Model("small", Heads(4, 2, 64), layers=3, vocab=500, ffn=512)
OPS = {
    "tree_mask",
    "append_kv_",
    "branch_attention",
    "compact_kv_",
    "sampling_probs",
    "sample",
    "draft_topk",
    "verify_tree",
    "packed_linear",
    "quantized_linear",
}


def test_a_run_records_everything(tmp_path, capsys):
    out, written = (tmp_path / name for name in ("a.json", "a.md"))
    arguments = ["--smoke", "--device", "cpu", "--op", "branch_attention|compact_kv_|verify.*gum"]
    assert cli.main([*arguments, *map(str, ("--out", out, "--markdown", written))]) == 0
    record = json.loads(out.read_text())
    assert {row["op"] for row in record["rows"]} == {
        "branch_attention",
        "compact_kv_",
        "verify_tree, gumbel",
    }
    for row in record["rows"]:
        timing = row["seconds"]["wall"][OURS]
        assert 0 < timing["min"] <= timing["median"] <= timing["max"]
        assert row["gb_per_s"] > 0
        assert row["over_eager"] == row["speedup"][EAGER]
    attended = record["rows"][0]
    assert attended["best_library"].startswith("SDPA")
    assert attended["of_lower_roof"] > 0
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["threads"] == torch.get_num_threads()
    assert record["flags"]["size"] == "smoke"
    assert set(record["absent"].values()) == {"needs a GPU"}
    assert {name.split(",")[0] for name in record["absent"]} == {"FlashAttention", "FlashInfer"}
    assert len(record["goals"]) == 7
    assert f"| {' | '.join(columns(record))} |" in written.read_text()
    assert "FlashInfer, cascade: absent, needs a GPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "no_such_op"], "--op: expected a pattern found in one of append_kv_,"),
        (["--op", "sample", "--shape", "context 7"], "--shape: expected a pattern found in one of"),
        (["--op", "("], "--op: expected a regular expression, got '('"),
        (["--smoke", "--all"], "not allowed with"),
    ],
)
def test_a_wrong_selection_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--device", "cpu", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", SIZES)
def test_every_size_names_its_cases_once(size):
    cases = select(size, FP32, "", "")
    names = [(case.op, label(case)) for case in cases]
    assert len(set(names)) == len(names)
    if size != "goals":
        assert {case.op.split(",")[0] for case in cases} == OPS
    if size in ("default", "all"):
        assert {case.model for case in cases} == {"-", *(model.name for model in MODELS)}


def test_filters_choose_by_op_and_shape():
    found = select("all", FP32, "^branch_attention$", "SmolLM2.*batch 8, branches 4, context 8192")
    assert [label(case) for case in found] == [
        "SmolLM2-135M, batch 8, branches 4, context 8192, float32"
    ]


def bench(memory: int = 1 << 30, **clocks) -> Bench:
    return Bench(CPU, clocks or {"wall": alone}, 0.0, 1, 1, memory)


def test_what_does_not_fit_is_left_out_by_name():
    case = attention(SMALL, FP32, 1, 4000, 8)
    row = measure(case, bench(memory=3 * case.memory), absent_from([case], CPU))
    assert "needs" in row["left_out"][EXPANDED]
    assert EXPANDED not in row["speedup"]
    with pytest.raises(MemoryError, match=r"needs 0\.0 GB"):
        measure(case, bench(memory=case.memory - 1), {})


def test_a_run_goes_on_past_what_it_must_skip(capsys):
    cases = select("smoke", FP32, "branch_attention|tree_mask", "")
    record = cli.measured(cases, bench(memory=1000), absent_from(cases, CPU), {})
    assert [row["op"] for row in record["rows"]] == ["tree_mask"]
    assert [name.split(":")[0] for name in record["skipped"]] == ["branch_attention"]
    assert "skipped branch_attention" in capsys.readouterr().out
    assert "branch_attention" in markdown(record)


def test_a_way_that_a_clock_cannot_time_is_left_out_of_that_clock():
    def graph(call):
        if "_eager" in getattr(call, "__qualname__", ""):
            raise RuntimeError("cannot be captured")
        return alone(call)

    case = attention(SMALL, FP32, 1, 70, 2)
    row = measure(case, bench(graph=graph, wall=alone), absent_from([case], CPU))
    assert row["left_out"] == {f"{EAGER} (graph)": "RuntimeError: cannot be captured"}
    assert EAGER not in row["seconds"]["graph"]
    assert EAGER in row["seconds"]["wall"]
    assert row["over_eager"] is None


def test_a_clock_may_give_several_times_a_turn():
    found = take_turns({"a": lambda: None}, rounds=3, clock=lambda call: [1.0, 2.0, 6.0])
    assert found == {"a": Timing(1.0, 2.0, 6.0)}


def times(**seconds: float) -> dict[str, Timing]:
    return {name.replace("_", " "): Timing(s, s, s) for name, s in seconds.items()}


def test_shares_are_of_the_slower_roof():
    found = shares(
        Work(600, 400, flops=2000),
        times(ours=4.0, copy=1.0, matrix_product=1.0),
        {COPY: 0.5, PRODUCT: 2.0},
    )
    assert found == {
        "gb_per_s": 1000 / 4 / 1e9,
        "copy_gb_per_s": 1000 / 0.5 / 1e9,
        "of_copy_bandwidth": 0.125,
        "product_gflop_per_s": 2000 / 2 / 1e9,
        "of_lower_roof": 0.5,
    }
    without = shares(Work(600, 400), times(ours=4.0, copy=1.0), {COPY: 1.0})
    assert without["of_lower_roof"] is None


def test_a_median_of_more_than_twice_the_minimum_is_disturbed():
    timings = {"quiet": Timing(1.0, 2.0, 9.0), "busy": Timing(1.0, 2.1, 9.0)}
    assert disturbed(timings) == ["busy"]


def test_ratios_name_the_best_library():
    kinds = {"ours": "ours", "chain": "eager", "a": "library", "b": "library", "gone": "library"}
    found = ratios(times(ours=2.0, chain=20.0, a=6.0, b=4.0, copy=1.0), kinds)
    assert found == {
        "speedup": {"chain": 10.0, "a": 3.0, "b": 2.0},
        "over_eager": 10.0,
        "best_library": "b",
        "over_best_library": 2.0,
    }
    alone = ratios(times(ours=2.0, copy=1.0), kinds)
    assert alone["best_library"] is alone["over_best_library"] is alone["over_eager"] is None


def test_a_product_does_about_as_much_as_it_is_to():
    assert Product.about(2 * 512**3, FP32, CPU).flops == 2 * 512**3
    assert Product.about(1, FP32, CPU).flops == 2 * 256**3


def test_a_missing_gpu_is_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        cli.main(["--device", "cuda"])
    assert "finds no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("installed", "clocks"),
    [
        (object(), ["graph, cold L2", "graph, warm L2"]),
        (None, ["graph, cold L2"]),
    ],
)
def test_a_gpu_has_two_clocks_with_triton(installed, clocks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 2000))
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: installed)
    found = Bench.on(torch.device("cuda"), 1.0)
    assert list(found.clocks) == clocks
    assert found.memory == 800


def test_milliseconds_of_triton_become_seconds(monkeypatch):
    def do_bench_cudagraph(fn, rep=20, grad_to_none=None, quantiles=None, return_mode="mean"):
        fn()
        return [3.0, 4.0] if return_mode == "all" else 3.5

    stand_in = SimpleNamespace(do_bench_cudagraph=do_bench_cudagraph)
    monkeypatch.setitem(sys.modules, "triton.testing", stand_in)
    calls = []
    assert gpu.graph_warm(lambda: calls.append(1)) == [0.003, 0.004]
    assert len(calls) == 1


def test_our_own_failure_is_no_omission(capsys):
    def broken(inputs):
        raise RuntimeError("ours")

    case = attention(SMALL, FP32, 1, 70, 2)
    ours, *others = case.ways
    failing = replace(case, ways=(replace(ours, make=broken), *others))
    fine = select("smoke", FP32, "tree_mask", "")
    record = cli.measured([failing, *fine], bench(), absent_from([failing], CPU), {})
    assert list(record["failed"].values()) == ["RuntimeError: ours"]
    assert [row["op"] for row in record["rows"]] == ["tree_mask"]
    assert "FAILED branch_attention" in capsys.readouterr().out
    assert "- branch_attention: " in markdown(record)
    assert "FAILED, RuntimeError: ours" in markdown(record)


def test_a_library_that_fails_is_left_out_and_said_to_be():
    def broken(inputs):
        raise RuntimeError("theirs")

    case = attention(SMALL, FP32, 1, 70, 2)
    ways = tuple(replace(c, make=broken) if c.name == EXPANDED else c for c in case.ways)
    row = measure(replace(case, ways=ways), bench(), absent_from([case], CPU))
    assert row["left_out"] == {EXPANDED: "RuntimeError: theirs"}
