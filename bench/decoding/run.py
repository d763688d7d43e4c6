"""The runs: every contender answers one turn, then the next, so that what disturbs the machine
disturbs all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bench.decoding.answer import Answer, Answerer
from bench.decoding.cases import Question
from bench.decoding.records import Key, Record, RunFile
from specbranch.comparison.baseline import BASELINE
from specbranch.comparison.divergence import Text, divergence
from specbranch.loading.pair import ModelPair
from specbranch.sampling import SamplingParams

WARM_UP_TOKENS = 16  # on a CPU; on a GPU whole answers, for forwards are captured as they come up


@dataclass(frozen=True)
class Field:
    """Who runs, and under what law.

    contenders: the baseline first. ours: those of them whose sampled text is the baseline's too.
    process: names this process in its records.
    """

    pair: ModelPair
    contenders: Mapping[str, Answerer]
    ours: frozenset[str]
    params: SamplingParams
    process: str


def turns(question: Question, pair: ModelPair) -> int:
    """How many turns of a question can be asked: later ones need a chat template."""
    return len(question.turns) if pair.tokenizer.chat_template else 1


def warm_up(field: Field, question: Question) -> None:
    """Let everyone answer a first time, uncounted."""
    prompt = field.pair.encode(question.turns[0])
    few = field.params.max_new_tokens
    if field.pair.device.type == "cpu":
        few = min(few, WARM_UP_TOKENS)
    for contender in field.contenders.values():
        contender(prompt, replace(field.params, max_new_tokens=few))


def missing_turns(
    field: Field, questions: Sequence[Question], repeats: int, file: RunFile
) -> list[tuple[Question, list[Key]]]:
    """The runs that the file lacks, turn by turn, repetition by repetition.

    In a turn the baseline is first, and the others begin with another one each time.
    """
    every_turn = [
        (repeat, question, turn)
        for repeat in range(repeats)
        for question in questions
        for turn in range(turns(question, field.pair))
    ]
    missing = []
    for number, (repeat, question, turn) in enumerate(every_turn):
        keys = [
            Key(name, question.category, question.id, turn, repeat)
            for name in _rotated(field.contenders, number)
        ]
        missing.append((question, [key for key in keys if key not in file.records]))
    return [(question, keys) for question, keys in missing if keys]


def run_turn(field: Field, question: Question, keys: Sequence[Key], file: RunFile) -> Iterator[Key]:
    """Make some contenders' runs of one turn, and yield the key of each once it is in the file."""
    at_baseline = keys[0]._replace(contender=BASELINE)
    answers = [
        _text(field.pair, file.records[at_baseline._replace(turn=turn)])
        for turn in range(at_baseline.turn)
    ]
    messages = question.messages(answers)
    prompt = field.pair.encode(messages if answers else question.turns[0])
    params = replace(field.params, seed=field.params.seed + at_baseline.repeat)
    for key in keys:
        record = _run(field, key, prompt, params)
        baseline = file.records.get(at_baseline, record)
        file.add(record | _beside(field, record, baseline, prompt, params))
        yield key


def _rotated(contenders: Iterable[str], number: int) -> list[str]:
    baseline, *others = contenders
    first = number % max(1, len(others))
    return [baseline, *others[first:], *others[:first]]


def _run(field: Field, key: Key, prompt: list[int], params: SamplingParams) -> Record:
    answer: Answer = field.contenders[key.contender](prompt, params)
    return {
        **key._asdict(),
        "process": field.process,
        "seed": params.seed,
        "prompt_tokens": len(prompt),
        "tokens": len(answer.token_ids),
        "wall_s": answer.wall_s,
        "first_token_s": answer.first_token_s,
        "token_ids": answer.token_ids,
        "stats": asdict(answer.stats),
    }


def _beside(
    field: Field,
    record: Record,
    baseline: Record,
    prompt: list[int],
    params: SamplingParams,
) -> Record:
    """Whether a text is the baseline's; None where it is to be equal in law only."""
    if params.temperature > 0 and record["contender"] not in field.ours:
        return {"identical_to_ar": None, "divergence": None}
    text = Text(prompt, baseline["token_ids"])
    parted = divergence(field.pair, record["token_ids"], text, params)
    told = parted and {"position": parted.position, "ar_margin": parted.margin}
    return {"identical_to_ar": parted is None, "divergence": told}


def _text(pair: ModelPair, record: Record) -> str:
    return str(pair.tokenizer.decode(record["token_ids"], skip_special_tokens=True))
