"""`specbranch distill` and the data for it: a small draft for a target that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbranch.files import require_writable
from specbranch.prompts import read_prompts

commands = typer.Typer()

Target = Annotated[str, typer.Option(help="Hub id, local folder, .gguf file or builtin:smollm2.")]


@commands.command("distill-data")
def distill_data(
    prompts: Annotated[Path, typer.Option(help="JSON lines with `prompt` or `turns`.")],
    out: Annotated[Path, typer.Option(help="Folder of the data; goes on where it stopped.")],
    target: Target = "builtin:smollm2",
    tokens: Annotated[int, typer.Option(min=1, help="To write now.")] = 400_000,
    batch: Annotated[int, typer.Option(min=1, help="Texts written at a time.")] = 64,
    max_message: Annotated[int, typer.Option(min=1, help="Tokens of a message, at most.")] = 224,
    max_answer: Annotated[int, typer.Option(min=1, help="Tokens of an answer, at most.")] = 240,
    seed: Annotated[int, typer.Option(help="Of all choices; writers side by side differ.")] = 0,
) -> None:
    """Have the target write texts that start from prompts, and store its answers' hidden states."""
    from specbranch.cli.distill_data import store
    from specbranch.cli.loading import load_lonely
    from specbranch.training.distill.corpus import Corpus
    from specbranch.training.distill.generate import BatchedWriter
    from specbranch.training.distill.passages import Frame, PassageWriter

    require_writable("--out", out / "shard")
    records = read_prompts(prompts)
    pair = load_lonely(target)
    writer = PassageWriter(
        [pair.tokenizer.encode(record.prompt, add_special_tokens=False) for record in records],
        Frame.of(pair.tokenizer),
        pair.eos_token_ids,
        max_message=max_message,
        max_answer=max_answer,
    )
    corpus = Corpus(out)
    first = corpus.next_passage(seed)
    passages = BatchedWriter(pair, writer, writer.passages(seed, first), batch=batch).finished()
    store(passages, corpus, tokens, seed, first + batch)


@commands.command()
def distill(
    data: Annotated[Path, typer.Option(help="Folder of `distill-data`.")],
    out: Annotated[Path, typer.Option(help="Folder of the draft; goes on where it stopped.")],
    target: Target = "builtin:smollm2",
    layers: Annotated[
        str,
        typer.Option(
            help="Of the target that the draft begins with: numbers (0,1,2), first:8, even:8 "
            "(evenly spaced), or chosen:8 (those that are missed most; takes minutes)."
        ),
    ] = "0,1,2",
    vocab: Annotated[int, typer.Option(min=1, help="Tokens that it can guess.")] = 16384,
    bits: Annotated[int, typer.Option(help="Of its weights on disk: 16, or 8.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser, at most.")] = 500,
    batch_tokens: Annotated[int, typer.Option(min=2, help="Tokens of a batch.")] = 2048,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a text, at most.")] = 512,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its highest.")] = 1e-3,
    ce_weight: Annotated[
        float, typer.Option(min=0, help="Of cross-entropy with the first choices, beside KL.")
    ] = 0.5,
    hidden_weight: Annotated[
        float, typer.Option(min=0, help="Of the last hidden states' distance, beside KL.")
    ] = 1.0,
    average: Annotated[
        float, typer.Option(min=0, max=1, help="Decay of the weights' running average, at a step.")
    ] = 0.99,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 25,
    patience: Annotated[
        int, typer.Option(min=1, help="Validations without a better draft to stop after.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of the order of the data.")] = 0,
) -> None:
    """Train a draft of a few layers on the target's laws; the best one so far stands in OUT.

    It can be stopped at any time, and goes on from its last validation. A core with bf16 products
    (AMX) takes 1.4 s for a step of 8 layers of SmolLM2-135M, 1500 tokens a second.
    """
    import torch

    from specbranch.cli.distill_train import run_with_progress
    from specbranch.cli.loading import load_target
    from specbranch.loading.distilled import CONFIG_FILE
    from specbranch.training.distill.corpus import Corpus
    from specbranch.training.distill.run import Distillation, DraftShape
    from specbranch.training.distill.train import TrainOptions

    require_writable("--out", out / CONFIG_FILE)
    model, _ = load_target(target, torch.bfloat16)
    distillation = Distillation(
        model,
        target,
        Corpus(data),
        DraftShape(layers, vocab, bits),
        TrainOptions(
            steps,
            batch_tokens,
            length,
            lr=learning_rate,
            average=average,
            ce_weight=ce_weight,
            hidden_weight=hidden_weight,
            seed=seed,
        ),
        out,
        validate_every=validate_every,
        patience=patience,
    )
    run_with_progress(distillation, steps, out)
