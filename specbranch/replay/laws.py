"""The draft's laws, by where they stand relative to a known text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from specbranch.files import write_whole

RANKS = 16  # guesses kept of a law: the widest fan that can be replayed


class Place(NamedTuple):
    """A token path after the prompt, as far as it follows the text and then beyond.

    on_text: tokens shared with the text; 0 is the prompt's last token.
    beyond: the tokens after those, the first of them not the text's.
    """

    on_text: int
    beyond: tuple[int, ...] = ()


class Law(NamedTuple):
    """What the draft says at a place."""

    ids: list[int]  # [RANKS] guesses, best first, -1 where there are fewer
    estimates: list[float]  # [RANKS] chance that each is right, as `draft_topk` gives it
    max_prob: float
    entropy: float  # nats


class LawSource(Protocol):
    """Where a replay gets the draft's laws from."""

    def laws(self, places: Sequence[Place]) -> list[Law]:
        """The law at each place."""
        ...


def place_of(text: Sequence[int], committed: int, path: Sequence[int]) -> Place:
    """The place reached by `path` below the first `committed` tokens of the text."""
    shared = 0
    for token, of_text in zip(path, text[committed : committed + len(path)], strict=False):
        if token != of_text:
            break
        shared += 1
    return Place(committed + shared, tuple(path[shared:]))


class LawStore(dict[Place, Law]):
    """Laws that are known already, and the file that keeps them."""

    @classmethod
    def load(cls, path: str | Path) -> LawStore:
        """Read what `save` wrote; an empty store if there is no such file."""
        if not Path(path).is_file():
            return cls()
        with np.load(path) as arrays:
            return cls(_unpacked(arrays))

    def save(self, path: str | Path) -> None:
        """Write the store to an `.npz` file."""
        buffer = BytesIO()
        np.savez_compressed(buffer, **_packed(self))  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())


def _packed(laws: Mapping[Place, Law]) -> dict[str, np.ndarray]:
    beyond = [token for place in laws for token in place.beyond]
    return {
        "on_text": np.array([place.on_text for place in laws], np.int32),
        "lengths": np.array([len(place.beyond) for place in laws], np.int32),
        "beyond": np.array(beyond, np.int32),
        "ids": np.array([law.ids for law in laws.values()], np.int32),
        "estimates": np.array([law.estimates for law in laws.values()]),
        "max_prob": np.array([law.max_prob for law in laws.values()]),
        "entropy": np.array([law.entropy for law in laws.values()]),
    }


def _unpacked(arrays: Mapping[str, np.ndarray]) -> Iterable[tuple[Place, Law]]:
    beyond = np.split(arrays["beyond"], np.cumsum(arrays["lengths"]))[:-1]
    columns = [arrays[name].tolist() for name in ("ids", "estimates", "max_prob", "entropy")]
    for on_text, tokens, *law in zip(arrays["on_text"].tolist(), beyond, *columns, strict=True):
        yield Place(on_text, tuple(tokens.tolist())), Law(*law)
