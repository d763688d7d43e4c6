"""The decoding benchmark end to end on a tiny pair: what runs, and what is not run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from bench import decode, llama
from bench.decoding.cases import CATEGORIES, EXAMPLES, Question, by_turns, read_questions
from bench.decoding.peers import _llama_answer
from specbranch.loading.distilled import cut_draft, save_draft
from specbranch.loading.pair import load_model
from specbranch.sampling import SamplingParams

PROMPTS = 5  # of the smoke size, second turns included

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(folders: tuple[Path, Path], tmp_path: Path) -> Run:
    """The benchmark at smoke size: the records in its file."""
    target, draft = map(str, folders)

    def smoke(*options: str) -> list[dict[str, Any]]:
        out = ["--out", str(tmp_path / "out")]
        models = ["--target", target, "--draft", draft, "--device", "cpu"]
        decode.main(["--smoke", *models, *out, *options])
        lines = (tmp_path / "out" / "runs.jsonl").read_text().splitlines()
        return list(map(json.loads, lines[1:]))

    return smoke


def test_all_contenders_answer_all_prompts_as_plain_decoding_does(run: Run, tmp_path: Path):
    records = run()
    names = ["ar", "specbranch", "bestfirst", "transformers", "assisted"]
    assert len(records) == PROMPTS * len(names)
    assert all(record["identical_to_ar"] for record in records)
    assert {record["tokens"] for record in records} == {decode.SMOKE_TOKENS}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["figures"]) == names
    assert list(summary["figures"]["assisted"]) == [*EXAMPLES, "overall"]
    assert all(
        about.startswith("absent") for peer, about in summary["peers"].items() if "llama" in peer
    )
    assert len(summary["goals"]) == 3
    page = (tmp_path / "out" / "README.md").read_text()
    for name in ("speedup.png", "timeline.png"):
        assert (tmp_path / "out" / name).is_file()
        assert f"({name})" in page


def test_a_run_is_made_once_and_a_line_cut_short_again(run: Run, tmp_path: Path):
    before = run("--peers", "", "--methods", "specbranch")
    file = tmp_path / "out" / "runs.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-40])
    after = run("--peers", "transformers", "--methods", "specbranch")
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) == len(before) + PROMPTS
    repaired = next(r for r in after[len(before) - 1 :] if r["contender"] == "specbranch")
    timed = {"process", "wall_s", "first_token_s", "stats"}
    assert {k: v for k, v in repaired.items() if k not in timed} == {
        k: v for k, v in before[-1].items() if k not in timed
    }
    assert repaired["process"] != before[-1]["process"]


def test_runs_under_other_conditions_do_not_join_a_file(run: Run):
    run("--peers", "", "--methods", "ar")
    with pytest.raises(ValueError, match=r"other conditions.*temperature: 0\.0 there, 1\.0 now"):
        run("--peers", "", "--methods", "ar", "--temperature", "1")


def test_sampled_texts_of_ours_are_plain_decodings_and_peers_are_not_compared(run: Run):
    records = run("--temperature", "1", "--methods", "bestfirst", "--peers", "assisted")
    told = {record["contender"]: set() for record in records}
    for record in records:
        told[record["contender"]].add(record["identical_to_ar"])
    assert told == {"ar": {True}, "bestfirst": {True}, "assisted": {None}}


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--peers", "vllm"), "got vllm"), (("--prompts", "0"), "expected at least 1, got 0")],
)
def test_options_out_of_range_are_told_before_models_load(
    run: Run, options: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        run(*options)
    assert told in capsys.readouterr().err


def test_a_draft_of_fewer_tokens_assists_nobody(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
):
    target, _ = load_model("target", str(folders[0]), torch.device("cpu"), torch.float32)
    tokens = torch.arange(0, 64, 2, dtype=torch.int32)
    save_draft(cut_draft(target, [0, 1], tokens), target, str(folders[0]), tmp_path / "narrow")
    records = run("--draft", str(tmp_path / "narrow"), "--methods", "ar", "--peers", "assisted")
    assert {record["contender"] for record in records} == {"ar"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["peers"]["assisted"].startswith("absent: the draft")


def test_what_a_model_ships_for_generation_is_no_part_of_a_comparison(
    run: Run, folders: tuple[Path, Path], tmp_path: Path
):
    shipped = tmp_path / "shipped"
    shutil.copytree(folders[0], shipped)
    penalties = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 2}
    GenerationConfig(**penalties).save_pretrained(shipped)
    records = run("--target", str(shipped), "--methods", "ar", "--peers", "transformers,assisted")
    assert {record["contender"] for record in records} == {"ar", "transformers", "assisted"}
    assert all(record["identical_to_ar"] for record in records)


class FakeLlama:
    """Counts on from the last token of the prompt."""

    forgotten = False

    def reset(self) -> None:
        self.forgotten = True

    def set_seed(self, seed: int) -> None:
        self.seed = seed

    def generate(self, tokens: list[int], **law: float):
        self.law = law
        token = tokens[-1]
        while True:
            token += 1
            yield token


@pytest.mark.parametrize(("eos", "expected"), [({6}, [5, 6]), ({99}, [5, 6, 7])])
def test_llama_cpp_ends_where_we_do(eos: set[int], expected: list[int]):
    loaded = FakeLlama()
    params = SamplingParams(max_new_tokens=3, temperature=0.5, seed=8)
    answer = _llama_answer(loaded, frozenset(eos), [1, 4], params)
    assert answer.token_ids == expected
    assert answer.stats.accepted_lengths == [1] * len(expected) == [1] * len(answer.arrivals)
    assert loaded.forgotten
    assert (loaded.seed, loaded.law["temp"], loaded.law["repeat_penalty"]) == (8, 0.5, 1.0)


def test_llama_cpp_needs_a_gguf_file():
    assert llama.gguf_of("some/model.gguf") == Path("some/model.gguf")
    with pytest.raises(ValueError, match=r"\.gguf file or a built-in model, got some/model"):
        llama.gguf_of("some/model")


def test_later_turns_follow_the_answers():
    question = Question("chat", "q", ("one?", "two?"))
    assert question.messages([]) == [{"role": "user", "content": "one?"}]
    assert [m["content"] for m in question.messages(["1"])] == ["one?", "1", "two?"]
    assert [m["role"] for m in question.messages(["1"])] == ["user", "assistant", "user"]


def test_questions_are_read_by_category_and_asked_by_turns(tmp_path: Path):
    for name, count in (("humaneval", 2), ("gsm8k", 1), ("news", 3)):
        lines = [json.dumps({"id": f"{name}-{n}", "prompt": "p"}) for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"mtbench\.jsonl: .*make prompts"):
        read_questions(2, CATEGORIES, tmp_path)
    (tmp_path / "mtbench.jsonl").write_text(json.dumps({"id": "m", "turns": ["a", "b"]}))
    asked = [question.id for question in by_turns(read_questions(2, CATEGORIES, tmp_path))]
    assert asked == ["humaneval-0", "gsm8k-0", "m", "news-0", "humaneval-1", "news-1"]
