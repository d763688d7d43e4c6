"""What H-RAD is worth: `python -m bench.hrad --drafts DRAFT ...`.

Examples are collected on prompts that no other figure uses, and held out by prompt, in three
splits: how often the class of the next block (nothing, some or everything of it is accepted) is
told, and the area under the ROC curve of the first and of the last. Beside it: the class that is
most frequent, two thresholds on the draft's confidence, and H-RAD as published, which sees nothing
of the block. In the loop: `specbranch` on recorded texts under the virtual clock, rows free, each
side at the epsilon that is best on other texts. Examples and recordings are kept: an interrupted
run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from bench import markdown
from bench.commit import commit
from bench.methods import MAX_NODES
from bench.options import TARGET, positive
from bench.prompts import EVALUATION, FOLDER, TUNING
from bench.recordings import MAX_LEN, Case, Recordings, cases
from bench.replays import free, speedups
from specbranch.engine import Engine
from specbranch.files import write_whole
from specbranch.hrad.features import FEATURE_LAYERS, text_features, with_embedding
from specbranch.hrad.model import CLASSES, OutlookClassifier
from specbranch.lanes import VirtualLanes
from specbranch.models.runner import ModelRunner
from specbranch.policies import SpecBranch, SpeculativeSampling
from specbranch.policies.base import Outlook
from specbranch.prompts import read_prompts
from specbranch.replay import DraftLaws, Recorded, Replayer
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.training.hrad.collect import Collector
from specbranch.training.hrad.collection import Collection, PromptExamples
from specbranch.training.hrad.examples import next_blocks
from specbranch.training.hrad.scores import ConfidenceRule, Scores, majority, scores
from specbranch.training.hrad.train import (
    EVERYTHING,
    NOTHING,
    Examples,
    TrainingOptions,
    config_for,
    fit,
    pooled,
    split_by_prompt,
)

GAMMA = 8
SPLITS = (0, 1, 2)
RATIOS = (8, 15)
EPSILONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MAJORITY, CONFIDENCE = "majority class", "confidence alone"
PUBLISHED, HYBRID = "H-RAD as published", "H-RAD"

Classifiers = dict[str, OutlookClassifier]


class Verdict(NamedTuple):
    """A predictor on the held-out prompts of a split. areas: under the ROC curves of nothing and of
    everything."""

    scores: Scores
    areas: tuple[float, float] | None


def collected(recordings: Recordings, prompts: int, folder: Path, bar: Progress) -> Collection:
    """The examples of so many prompts, made now where they are not in the folder."""
    lanes = VirtualLanes(free(1))
    engine = Engine(recordings.pair, SpeculativeSampling(GAMMA), lanes=lanes, max_len=MAX_LEN)
    collector = Collector(engine, SamplingParams(max_new_tokens=128), GAMMA)
    collection = Collection.resume(folder / recordings.folder.name, collector.settings)
    wanted = read_prompts(FOLDER / "hrad.jsonl", prompts)
    for each in bar.track(wanted, description=f"{recordings.draft}: examples"):
        if each.prompt not in collection:
            collection.add(each.prompt, collector.examples(each))
    return collection


def blind(examples: Examples) -> Examples:
    """As H-RAD was published: without the draft's block."""
    return examples._replace(block=torch.zeros_like(examples.block))


def trained(collection: Collection, training: Examples, validation: Examples) -> Classifiers:
    config = config_for(collection.settings, GAMMA)
    sides = training, validation
    return {
        PUBLISHED: fit(*map(blind, sides), config, TrainingOptions()),
        HYBRID: fit(*sides, config, TrainingOptions()),
    }


def judged(classifiers: Classifiers, training: Examples, held_out: Examples) -> dict[str, Verdict]:
    """Each predictor on examples that it has not seen."""
    classes, confidence = held_out.classes, held_out.max_prob
    rule = ConfidenceRule.fit(training)
    found = {
        MAJORITY: Verdict(scores(majority(training, held_out), classes), None),
        CONFIDENCE: Verdict(
            scores(rule(held_out), classes),
            _areas(-confidence[:, 0], confidence.amin(dim=1), classes),
        ),
    }
    for name, examples in ((PUBLISHED, blind(held_out)), (HYBRID, held_out)):
        chances = classifiers[name].chances(examples.inputs, examples.block)
        areas = _areas(chances[:, NOTHING], chances[:, EVERYTHING], classes)
        found[name] = Verdict(scores(chances.argmax(dim=1), classes), areas)
    return found


def _areas(nothing: Tensor, everything: Tensor, classes: Tensor) -> tuple[float, float]:
    return (
        roc_area(nothing, classes == NOTHING),
        roc_area(everything, classes == EVERYTHING),
    )


def roc_area(score: Tensor, positives: Tensor) -> float:
    """The chance that a positive scores above a negative, ties counting half; NaN without both."""
    low, high = score[~positives].sort().values, score[positives]
    below = torch.searchsorted(low, high) + torch.searchsorted(low, high, right=True)
    return float(below.double().sum() / (2 * len(low) * len(high)))


class Loop:
    """Recorded texts with what each side foresees along them."""

    def __init__(self, recordings: Recordings, classifiers: Classifiers) -> None:
        self._recordings = recordings
        self._classifiers = classifiers
        self._laws: list[tuple[Case, DraftLaws]] = []
        self._target = recordings.pair.target
        self._runner = ModelRunner(
            self._target, max_len=MAX_LEN, max_nodes=MAX_NODES, feature_layers=FEATURE_LAYERS
        )

    def texts(self, wanted: Sequence[Case]) -> dict[str, list[Recorded]]:
        """By side."""
        found: dict[str, list[Recorded]] = {CONFIDENCE: [], PUBLISHED: [], HYBRID: []}
        for case in wanted:
            laws, recording = self._recordings.laws(case), self._recordings.recording(case)
            blocks = torch.tensor(next_blocks(laws, recording, GAMMA).laws).reshape(-1, GAMMA, 2)
            self._recordings.save(case, laws)
            self._laws.append((case, laws))
            text = recording.text[: len(blocks)]
            features = text_features(self._runner, recording.prompt, recording.text)[: len(text)]
            inputs = with_embedding(self._target, features, text)
            found[CONFIDENCE].append(Recorded(recording, laws))
            for side, lengths in ((PUBLISHED, [0]), (HYBRID, range(GAMMA + 1))):
                foreseen = outlooks(self._classifiers[side], inputs, blocks, lengths)
                found[side].append(Recorded(recording, laws, foreseen))
        return found

    def save(self) -> None:
        """Keep what the draft has computed."""
        for case, laws in self._laws:
            self._recordings.save(case, laws)


def outlooks(
    classifier: OutlookClassifier, inputs: Tensor, blocks: Tensor, lengths: Sequence[int]
) -> list[list[Outlook]]:
    """Below each token of a text, for blocks of which so much is drafted."""
    by_length = []
    for length in lengths:
        drafted = (torch.arange(blocks.shape[1]) < length)[:, None]
        by_length.append(classifier.chances(inputs, blocks * drafted).tolist())
    return [[Outlook(*chances) for chances in place] for place in zip(*by_length, strict=True)]


def replayed(texts: Sequence[Recorded], c: int, epsilon: float) -> list[Stats]:
    replayer = Replayer(
        SpecBranch(gamma=GAMMA, epsilon=epsilon),
        free(c),
        max_nodes=MAX_NODES,
    )
    return [replayer.replay(*each).stats for each in texts]


def speedup(runs: Sequence[Stats], c: int) -> float:
    return geometric_mean(speedups(runs, free(c)))


def loop_rows(
    draft: str, tuning: dict[str, list[Recorded]], evaluation: dict[str, list[Recorded]]
) -> Iterator[list[str]]:
    for c in RATIOS:
        alone = 0.0
        for side in evaluation:
            swept = {each: speedup(replayed(tuning[side], c, each), c) for each in EPSILONS}
            epsilon = max(swept, key=lambda each, swept=swept: swept[each])
            runs = replayed(evaluation[side], c, epsilon)
            reached = speedup(runs, c)
            alone = alone or reached
            rollback = Stats.pooled(runs).rollback_rate
            cells = f"{reached:.3f}x", f"{reached / alone:.3f}", f"{rollback:.0%}"
            yield [f"`{draft}`", str(c), side, f"{epsilon:g}", *cells]


def held_out_rows(draft: str, splits: Sequence[dict[str, Verdict]]) -> Iterator[list[str]]:
    for name in splits[0]:
        verdicts = [split[name] for split in splits]
        summed = Scores(torch.stack([each.scores.confusion for each in verdicts]).sum(dim=0))
        accuracies = [each.scores.accuracy for each in verdicts]
        areas = [each.areas or (0.5, 0.5) for each in verdicts]
        yield [
            f"`{draft}`",
            name,
            f"{summed.accuracy:.1%}",
            f"{min(accuracies):.1%}, {max(accuracies):.1%}",
            *(f"{mean:.3f}" for mean in torch.tensor(areas).nanmean(dim=0).tolist()),
            *(
                f"{p:.0%} / {r:.0%}".replace("nan%", "-")
                for p, r in zip(summed.precision, summed.recall, strict=True)
            ),
        ]


def of_pair(
    draft: str, options: argparse.Namespace, bar: Progress
) -> tuple[list[list[str]], list[list[str]]]:
    """A pair's rows of both tables."""
    recordings = Recordings(options.target, draft, options.recordings)
    collection = collected(recordings, options.prompts, options.examples, bar)
    prompts: list[PromptExamples] = collection.load()
    splits, classifiers = [], {}
    for seed in bar.track(SPLITS, description=f"{draft}: splits"):
        sides = [pooled(side, GAMMA) for side in split_by_prompt(prompts, seed)]
        classifiers = trained(collection, *sides[:2])
        splits.append(judged(classifiers, sides[0], sides[2]))
    loop = Loop(recordings, classifiers)
    tuning, evaluation = map(loop.texts, (cases(*TUNING, [0.0]), cases(0, options.texts, [0.0])))
    rows, found = loop_rows(draft, tuning, evaluation), []
    for row in bar.track(rows, total=3 * len(RATIOS), description=f"{draft}: in the loop"):
        found.append(row)
        loop.save()
    return list(held_out_rows(draft, splits)), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--drafts", nargs="+", required=True)
    parser.add_argument("--prompts", type=positive, default=150, help="that examples are made of")
    parser.add_argument("--texts", type=positive, default=EVALUATION, help="of each set, replayed")
    parser.add_argument("--examples", type=Path, default=Path("build/hrad"), help="folder")
    parser.add_argument("--recordings", type=Path, default=Path("build/replay"), help="folder")
    parser.add_argument("--out", type=Path, default=Path("build/bench/hrad.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with Progress(console=Console(stderr=True)) as bar:
        held_out, loop = zip(
            *(of_pair(draft, options, bar) for draft in options.drafts), strict=True
        )
    lines = ["# What H-RAD is worth", "", *(__doc__ or "").split("\n\n", 1)[1].strip().split("\n")]
    lines += [
        "",
        f"{options.prompts} prompts of {options.target}, greedy, gamma {GAMMA}, at {commit()}.",
        "",
    ]
    header = ["draft", "predictor", "accuracy", "least, most of a split", "ROC area, nothing"]
    header += ["everything", *(f"{name}, precision / recall" for name in CLASSES)]
    lines += [*markdown.table(header, *(row for rows in held_out for row in rows)), ""]
    header = ["draft", "c", "in the loop", "epsilon", "speedup", "over confidence", "rollback"]
    lines += markdown.table(header, *(row for rows in loop for row in rows))
    write_whole(options.out, "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
