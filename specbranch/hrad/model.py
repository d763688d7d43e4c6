"""The classifier, the file that holds it, and what an engine asks of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from specbranch.files import write_whole
from specbranch.hrad.features import Certainty, padded, with_embedding
from specbranch.loading.pair import ModelPair
from specbranch.policies.base import Outlook

CLASSES = ("nothing", "some", "everything")
CONFIG_KEY = "hrad"
BLOCK_DIM = 32


@dataclass(frozen=True, slots=True)
class HRadConfig:
    """What a classifier was trained for.

    gamma: guesses of a block; the classes are none of them right, some, all.
    """

    target: str
    draft: str
    gamma: int
    feature_layers: int
    hidden_size: int
    dims: tuple[int, ...] = (256, 64)
    classes: tuple[str, ...] = CLASSES

    def require_pair(self, pair: ModelPair) -> None:
        """Raise ValueError unless the classifier was trained for this pair."""
        found = (pair.target_name, pair.draft_name)
        if found != (self.target, self.draft):
            raise ValueError(
                f"hrad: the classifier was trained for target {self.target} and draft "
                f"{self.draft}, got target {found[0]} and draft {found[1]}"
            )

    @property
    def num_inputs(self) -> int:
        """Features of all layers, and the new token's embedding."""
        return (self.feature_layers + 1) * self.hidden_size


class OutlookClassifier(nn.Module):
    """The sum of two MLPs: of what the target has, and of the draft's certainty along the block.

    The target's is that of arXiv 2506.01979: standardised inputs, ReLU and dropout after each
    hidden layer. It adds nothing before it is trained.
    """

    mean: Tensor  # float32 [num_inputs], of the training inputs
    std: Tensor
    log_prior: Tensor  # float32 [classes], what class weights took out of the logits

    def __init__(self, config: HRadConfig, dropout: float = 0.2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.num_inputs, dtype=torch.float32))
        self.register_buffer("std", torch.ones(config.num_inputs, dtype=torch.float32))
        self.register_buffer("log_prior", torch.zeros(len(config.classes), dtype=torch.float32))
        self.of_block = _mlp((2 * config.gamma, BLOCK_DIM, len(config.classes)), 0.0)
        self.of_target = _mlp((config.num_inputs, *config.dims, len(config.classes)), dropout)
        for parameter in self.of_target[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, block: Tensor) -> Tensor:
        """Logits [n, classes] as if all classes were as frequent, for inputs [n, num_inputs] and
        block [n, gamma, 2], see `padded`."""
        logits: Tensor = self.of_block(block.flatten(1))
        logits = logits + self.of_target((inputs.float() - self.mean) / self.std)
        return logits

    @torch.inference_mode()
    def chances(self, inputs: Tensor, block: Tensor) -> Tensor:
        """Chances [n, classes] at the classes' own frequencies."""
        return (self(inputs, block) + self.log_prior).softmax(dim=-1)


def _mlp(widths: Sequence[int], dropout: float) -> nn.Sequential:
    *hidden, last = pairwise(widths)
    layers: list[nn.Module] = []
    for sizes in hidden:
        layers += [nn.Linear(*sizes), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(*last))


class HRad:
    """A trained classifier beside the target whose hidden states it reads.

    Raises ValueError if it was trained for another pair.
    """

    def __init__(self, classifier: OutlookClassifier, config: HRadConfig, pair: ModelPair) -> None:
        config.require_pair(pair)
        self.config = config
        self._target = pair.target
        self._classifier = classifier.to(pair.target.device).eval().requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path, pair: ModelPair) -> HRad:
        """Read what `save_classifier` wrote.

        Raises ValueError if the file is none, or was trained for another pair.
        """
        return cls(*load_classifier(path), pair)

    def outlooks(
        self, features: Tensor, tokens: list[int], blocks: Sequence[Sequence[Certainty]]
    ) -> list[Outlook]:
        """What to expect of the draft's next block at each of n places.

        features: [n, feature_layers * hidden] of the last accepted tokens. tokens: what follows.
        blocks: what the draft has below those, see `surviving_block`.
        """
        inputs = with_embedding(self._target, features, tokens)
        block = padded(blocks, self.config.gamma).to(inputs.device)
        chances = self._classifier.chances(inputs, block)
        return [Outlook(*row) for row in chances.tolist()]


def save_classifier(path: str | Path, classifier: OutlookClassifier, config: HRadConfig) -> None:
    """Write weights and config to one safetensors file."""
    tensors = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    write_whole(path, save(tensors, metadata={CONFIG_KEY: json.dumps(asdict(config))}))


def load_classifier(path: str | Path) -> tuple[OutlookClassifier, HRadConfig]:
    """Read what `save_classifier` wrote. Raises ValueError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            fields = json.loads(file.metadata()[CONFIG_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = HRadConfig(
            **fields | {"dims": tuple(fields["dims"]), "classes": tuple(fields["classes"])}
        )
        classifier = OutlookClassifier(config).float()
        classifier.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"hrad: expected a file of `hrad train`, got {path}: {error}") from error
    return classifier, config
