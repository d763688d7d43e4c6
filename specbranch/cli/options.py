"""The options that commands share, in groups."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbranch.comparison.methods import Options, parse_option
from specbranch.texts import read_text_file

if TYPE_CHECKING:
    from specbranch.costs.model import CostModel
    from specbranch.loading.pair import ModelPair
    from specbranch.sampling import SamplingParams


def option(group: str, help_text: str, *flags: str, least: int | None = None) -> Any:
    return typer.Option(*flags, help=help_text, rich_help_panel=group, min=least)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which models, and where they run."""

    target: Annotated[
        str, option("Models", "Hub id, local folder, .gguf file or builtin:smollm2.")
    ] = "builtin:smollm2"
    draft: Annotated[
        str | None,
        option(
            "Models",
            "Like --target; or self:int4 / self:int8, the target quantised; or a distilled draft, "
            "its folder or builtin:smollm2-draft. By default self:int4; for the "
            "built-in target on a GPU or in q4 one of its own.",
        ),
    ] = None
    source: Annotated[
        str,
        option(
            "Models",
            "Who guesses: model, the draft; ngram, what followed the same words before, for which "
            "no draft is loaded; or model+ngram, both.",
        ),
    ] = "model"
    target_weights: Annotated[
        str | None,
        option(
            "Models",
            "q4 or q8, matrices in 4 or 8 bits, on cpu; plain, in --dtype; by default as stored: "
            "a .gguf file keeps its bits where they fit.",
        ),
    ] = None
    draft_weights: Annotated[str | None, option("Models", "Like --target-weights.")] = None
    device: Annotated[
        str | None, option("Models", "cpu or cuda; by default cuda where there is one.")
    ] = None
    draft_device: Annotated[
        str | None,
        option(
            "Models",
            "Of the draft: another GPU, or the cpu beside a target on a GPU, as is the default for "
            "a draft in few bits.",
        ),
    ] = None
    dtype: Annotated[
        str | None,
        option(
            "Models", "float32, bfloat16 or float16; by default float32 on cpu, bfloat16 on cuda."
        ),
    ] = None

    def load(self) -> ModelPair:
        """Raises ValueError as `load_pair` does. Without a draft where none is needed."""
        from specbranch.loading.pair import load_pair
        from specbranch.loading.placement import default_device

        draft = "self" if self.source == "ngram" else self.draft
        return load_pair(
            self.target,
            draft,
            device=self.device or default_device(self.target_weights),
            draft_device=self.draft_device,
            dtype=self.dtype,
            target_weights=self.target_weights,
            draft_weights=self.draft_weights,
        )


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """What the models' lanes are."""

    draft_threads: Annotated[
        int | None,
        option("Lanes", "Cores of the draft; by default what suits the method.", least=1),
    ] = None
    target_threads: Annotated[
        int | None,
        option("Lanes", "Cores of the target; by default what suits the method.", least=1),
    ] = None
    clock: Annotated[
        str,
        option(
            "Lanes",
            "wall, or a cost model for real tokens in simulated time: virtual:c=10 (a target "
            "forward costs 10 draft steps), virtual:FILE (as `specbranch calibrate` writes it) or "
            "virtual:NAME (a pair of the paper, such as llama-3.1-8b-70b).",
        ),
    ] = "wall"

    def costs(self) -> CostModel | None:
        """The virtual clock's, None for the wall clock. Raises ValueError for what is neither."""
        from specbranch.costs.model import CostModel

        if self.clock != "wall" and not self.clock.startswith("virtual:"):
            wanted = "wall, virtual:c=X, virtual:FILE or virtual:NAME"
            raise ValueError(f"clock: expected {wanted}, got {self.clock!r}")
        return None if self.clock == "wall" else CostModel.parse(self.clock)


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """The law of the output and its length."""

    max_new_tokens: Annotated[
        int, option("Sampling", "Tokens to generate, at most.", "--max-new-tokens", "-n")
    ] = 128
    temperature: Annotated[float, option("Sampling", "0 is greedy.")] = 0.0
    top_k: Annotated[int, option("Sampling", "Likeliest tokens to keep; 0 is off.")] = 0
    top_p: Annotated[float, option("Sampling", "Probability mass to keep; 1 is off.")] = 1.0
    min_p: Annotated[
        float, option("Sampling", "Least probability, as a share of the likeliest's; 0 is off.")
    ] = 0.0
    seed: Annotated[int, option("Sampling", "One seed, one text.")] = 0
    coupling: Annotated[
        str,
        option(
            "Sampling",
            "gumbel: the text is that of plain sampling with the same seed; "
            "rejection: classical speculative sampling, equal in law.",
        ),
    ] = "gumbel"
    stop: Annotated[
        list[str] | None, option("Sampling", "End before this string; may be repeated.")
    ] = None
    ignore_eos: Annotated[bool, option("Sampling", "Go on after an end-of-sequence token.")] = False

    def params(self, **rules: Any) -> SamplingParams:
        """The request's parameters, `rules` among them. Raises ValueError for a value out of
        range."""
        from specbranch.sampling import SamplingParams

        options = asdict(self)
        return SamplingParams(**options | {"stop": tuple(self.stop or ())} | rules)


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What a text does to its own next token, and what is told of its tokens."""

    frequency_penalty: Annotated[
        float,
        option("Rules", "Off a token's logit for each time that the output has it; 0 is off."),
    ] = 0.0
    presence_penalty: Annotated[
        float, option("Rules", "Off a token's logit if the output has it; 0 is off.")
    ] = 0.0
    repetition_penalty: Annotated[
        float, option("Rules", "Divides logits of tokens of prompt and output; 1 is off.")
    ] = 1.0
    min_new_tokens: Annotated[int, option("Rules", "Tokens before the text may end.")] = 0
    logit_bias: Annotated[
        list[str] | None,
        option(
            "Rules", "TOKEN=X: add X to the logit of a token id, -inf bans it; may be repeated."
        ),
    ] = None
    json_schema: Annotated[
        Path | None,
        option("Rules", "File of a JSON schema that the text follows; needs the extra grammar."),
    ] = None
    logprobs: Annotated[
        int | None,
        option("Rules", "Tell each token's log-probability, and those of the N likeliest."),
    ] = None

    def given(self) -> dict[str, Any]:
        """Fields of SamplingParams. Raises ValueError for what is no TOKEN=X, and for a file that
        has no JSON."""
        biases = dict(map(_bias, self.logit_bias or ()))
        schema = None if self.json_schema is None else _read_json(self.json_schema)
        return asdict(self) | {"logit_bias": biases, "json_schema": schema}


def _bias(given: str) -> tuple[int, float]:
    token, _, bias = given.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise ValueError(
            f"--logit-bias: expected TOKEN=X, a token id and a number, got {given!r}"
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text_file(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"--json-schema: expected a file of JSON, got {path}: {error}") from None


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """Parameters of the drafting methods; None leaves the method's own default."""

    gamma: Annotated[
        int | None,
        option(
            "Drafting",
            "Tokens of a chain, at most (all but ar, bestfirst and auto); pearl and specbranch "
            "follow the measured costs without it.",
        ),
    ] = None
    k_max: Annotated[int | None, option("Drafting", "Branches, at most (specbranch).")] = None
    epsilon: Annotated[
        float | None, option("Drafting", "Confidence below which to branch (specbranch).")
    ] = None
    threshold: Annotated[
        float | None, option("Drafting", "First entropy bound to stop at (adaedl).")
    ] = None
    fan_out: Annotated[int | None, option("Drafting", "Branches at the root (ssd).")] = None
    acceptance: Annotated[
        float | None, option("Drafting", "Chance that a guess is right, for the fan-out (ssd).")
    ] = None
    power: Annotated[
        float | None, option("Drafting", "Exponent of misses over the fan-out (ssd).")
    ] = None
    backup: Annotated[
        int | None, option("Drafting", "Tokens drafted after a miss, at most (ssd).")
    ] = None
    rows_draft: Annotated[
        int | None, option("Drafting", "Nodes of a draft step, at most (bestfirst, auto).")
    ] = None
    rows_target: Annotated[
        int | None, option("Drafting", "Rows of a target forward, at most (bestfirst, auto).")
    ] = None
    fan: Annotated[
        int | None, option("Drafting", "Children of a node, at most (bestfirst, auto).")
    ] = None
    option: Annotated[
        list[str] | None,
        option("Drafting", "key=value: any option of a method, by name; may be repeated."),
    ] = None
    hrad: Annotated[
        Path | None, option("Drafting", "Classifier of `hrad train` for this pair (specbranch).")
    ] = None

    def given(self) -> Options:
        """The options of policies that were given. Raises ValueError for what is no key=value."""
        fields = asdict(self)
        named = dict(map(parse_option, fields.pop("option") or ()))
        del fields["hrad"]
        return {name: value for name, value in fields.items() if value is not None} | named
