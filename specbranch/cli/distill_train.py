"""`specbranch distill`: a progress bar over the steps, a line for each validation."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from specbranch.cli.loading import load_target
from specbranch.cli.progress import progress_bar
from specbranch.distill.corpus import Corpus
from specbranch.distill.run import Distillation, DraftShape
from specbranch.distill.train import TrainOptions
from specbranch.distill.validate import Validation


def parse_layers(text: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list. Raises ValueError for anything else."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"layers: expected numbers separated by commas, got {text!r}") from None


def train_draft(
    target: str,
    data: Path,
    out: Path,
    shape: DraftShape,
    options: TrainOptions,
    validate_every: int,
    patience: int,
) -> None:
    """Run the command."""
    model, _ = load_target(target, torch.float32)
    distillation = Distillation(
        model,
        target,
        Corpus(data),
        shape,
        options,
        out,
        validate_every=validate_every,
        patience=patience,
    )
    with progress_bar() as bar:
        task = bar.add_task("start", total=options.steps, completed=distillation.step)
        _show(bar.console, distillation.step, distillation.validation)
        for progress in distillation.run():
            bar.update(task, completed=progress.step, description=f"loss {progress.loss:.3f}")
            if progress.validation:
                _show(bar.console, progress.step, progress.validation)
        best = f"best agreement {distillation.best:.3f}: {out}"
        bar.console.print(best, highlight=False, soft_wrap=True)


def _show(console: Console, step: int, validation: Validation) -> None:
    console.print(
        f"step {step}, held-out prompts: agreement {validation.agreement:.3f}, divergence "
        f"{validation.divergence:.3f} nats, over {validation.tokens} tokens",
        highlight=False,
        soft_wrap=True,
    )
