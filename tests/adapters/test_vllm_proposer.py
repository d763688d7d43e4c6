"""vLLM's proposer, as vLLM calls it, without vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from specbranch.adapters.vllm import Proposer
from specbranch.adapters.vllm_options import Options
from specbranch.drafting import Drafter
from tests.drafting.target import Target
from tests.engine import tiny

MAX_LEN = 96


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny.save_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def target():
    return Target(tiny.model())


def proposer(model, options, k=4, rank=0) -> Proposer:
    made = Proposer(
        SimpleNamespace(
            additional_config={"specbranch": options},
            speculative_config=SimpleNamespace(num_speculative_tokens=k),
            scheduler_config=SimpleNamespace(max_num_seqs=3),
            parallel_config=SimpleNamespace(rank=rank, tensor_parallel_size=2),
            device_config=SimpleNamespace(device_type="cpu"),
            model_config=SimpleNamespace(
                model=str(model),
                max_model_len=MAX_LEN,
                dtype=torch.float32,
                get_vocab_size=lambda: len(tiny.VOCAB),
            ),
        )
    )
    made.load_model()
    return made


class Batch:
    """Rows as vLLM keeps them."""

    def __init__(self, target: Target, prompts: list[list[int]]) -> None:
        self._target = target
        self.token_ids = np.zeros((len(prompts), MAX_LEN), np.int32)
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        self.drafted = self.accepted = 0
        for row, prompt in enumerate(prompts):
            self.token_ids[row, : len(prompt)] = prompt

    def text(self, row: int) -> list[int]:
        return self.token_ids[row, : self.lengths[row]].tolist()

    def verify(self, row: int, drafts: list[int]) -> list[int]:
        new: list[int] = []
        for draft in [*drafts, None]:
            new.append(self._target.next([*self.text(row), *new]))
            if new[-1] != draft:
                break
        self.drafted += len(drafts)
        self.accepted += len(new) - 1
        end = self.lengths[row] + len(new)
        assert end <= MAX_LEN
        self.token_ids[row, self.lengths[row] : end] = new
        self.lengths[row] = end
        return new

    def decode(self, proposer: Proposer, rounds: int) -> None:
        drafts: list[list[int]] = [[] for _ in self.lengths]
        for _ in range(rounds):
            sampled = [self.verify(row, drafts[row]) for row in range(len(drafts))]
            drafts = proposer.propose(sampled, self.lengths, self.token_ids)


@pytest.mark.parametrize(
    "options",
    [
        {"draft": "DRAFT"},
        {"draft": "DRAFT", "source": "model+ngram"},
        {"draft": "self:int4"},
        {"draft": "self", "rows": 2, "least": 0.0},
        {},
    ],
)
def test_every_kind_of_draft_helps(folders, target, options):
    folder, draft = folders
    named = {name: str(draft) if value == "DRAFT" else value for name, value in options.items()}
    batch = Batch(target, [[5, 9, 3], [7, 3, 9, 30] * 4, [50, 2]])
    made = proposer(folder, {**named, "steps": 4})
    batch.decode(made, 20)
    assert batch.accepted > 0
    if options.get("draft") == "self":
        assert batch.accepted == batch.drafted
    assert made.report()["hits"] > 0


def test_rows_of_unread_prompts_and_of_full_texts_get_nothing(folders, target):
    made = proposer(folders[0], {"draft": "self", "steps": 2})
    batch = Batch(target, [[5, 9, 3], [7] * MAX_LEN])
    for _ in range(3):
        assert made.propose([[], [7]], batch.lengths, batch.token_ids) == [[], []]


def test_one_part_of_a_target_drafts(folders):
    made = proposer(folders[0], {"draft": "self"}, rank=1)
    assert made.propose([[3]], np.array([2]), np.zeros((1, MAX_LEN), np.int32)) == [[]]
    assert made.report() == {}


def test_drafting_that_fails_is_told_and_ends(folders, target, monkeypatch, caplog):
    made = proposer(folders[0], {"draft": "self", "steps": 2})
    batch = Batch(target, [[5, 9, 3]])
    batch.decode(made, 3)

    def fail(self, news):
        raise ArithmeticError("no law")

    monkeypatch.setattr(Drafter, "propose", fail)
    assert made.propose([batch.verify(0, [])], batch.lengths, batch.token_ids) == [[]]
    assert "no law" in caplog.text
    monkeypatch.undo()
    assert made.propose([batch.verify(0, [])], batch.lengths, batch.token_ids) == [[]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"drafts": "x"}, "specbranch: drafts: expected an option"),
        ([1], "specbranch: expected options by their names"),
        ({"draft": 3}, "specbranch: draft: expected the name of a model, got 3"),
        ({"source": "model"}, "specbranch: draft: expected the name of a model, for source"),
        ({"draft": "x", "source": "tree"}, "specbranch: source: expected one of model, ngram"),
        ({"draft": "x", "draft_dtype": "int8"}, "specbranch: draft_dtype: expected one of"),
        ({"draft": "x", "draft_weights": "q3"}, "specbranch: draft_weights: expected plain"),
        ({"rows": 0}, "specbranch: rows: expected an integer >= 1, got 0"),
        ({"fan": 256}, "specbranch: fan: expected an integer from 1 to 255, got 256"),
        ({"least": 2}, r"specbranch: least: expected a number in \[0, 1\], got 2"),
        ({"max_nodes": 1}, "specbranch: max_nodes: expected an integer >= 2, got 1"),
        ({"max_texts": 0}, "specbranch: max_texts: expected an integer >= 1, got 0"),
        ({"steps": 0}, "specbranch: steps: expected an integer >= 1, got 0"),
        ({"cores": [10**6]}, "specbranch: cores: expected cores of this process"),
    ],
)
def test_bad_options(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Options.of({"specbranch": options})
