"""What `specbranch distill` shows while it trains."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from specbranch.cli.progress import progress_bar
from specbranch.training.distill.run import Distillation
from specbranch.training.distill.validate import Validation


def run_with_progress(distillation: Distillation, steps: int, out: Path) -> None:
    """Train up to so many steps, with a bar over them and a line for each validation."""
    with progress_bar() as bar:
        task = bar.add_task("start", total=steps, completed=distillation.step)
        layers = ",".join(map(str, distillation.layers))
        bar.console.print(f"layers {layers} of the target", highlight=False, soft_wrap=True)
        _show(bar.console, distillation.step, distillation.validation)
        for progress in distillation.run():
            bar.update(task, completed=progress.step, description=f"loss {progress.loss:.3f}")
            if progress.validation:
                _show(bar.console, progress.step, progress.validation)
        best = f"best agreement {distillation.best:.3f}: {out}"
        bar.console.print(best, markup=False, highlight=False, soft_wrap=True)


def _show(console: Console, step: int, validation: Validation) -> None:
    console.print(
        f"step {step}, held-out prompts: agreement {validation.agreement:.3f}, divergence "
        f"{validation.divergence:.3f} nats, over {validation.tokens} tokens",
        highlight=False,
        soft_wrap=True,
    )
