"""What each op must read and write, whoever computes it: what kernels are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

INT = FLOAT = 4
"""Bytes of an index, of an lse, an estimate or a probability."""


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that must cross the memory's pins, each once; useful operations of matrix products."""

    read_bytes: int
    written_bytes: int
    flops: int = 0

    @property
    def floor_bytes(self) -> int:
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention of one layer of a model, in 16 bits."""

    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    element_size: int = 2

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.num_kv_heads * self.head_dim * self.element_size


def words(nodes: int) -> int:
    """Of a node's row of the ancestor mask."""
    return math.ceil(nodes / 32)


def branch_attention(heads: Heads, *, batch: int, context: int, rows: int) -> Work:
    """Every request has `rows` rows, which are its draft block's nodes."""
    keys = context + rows
    row_bytes = heads.num_qo_heads * heads.head_dim * heads.element_size
    return Work(
        read_bytes=batch * (keys * heads.token_bytes + rows * (row_bytes + words(rows) * INT)),
        written_bytes=batch * rows * (row_bytes + heads.num_qo_heads * FLOAT),
        flops=batch * 4 * rows * heads.num_qo_heads * heads.head_dim * keys,
    )


def append_kv(heads: Heads, *, batch: int, tokens: int) -> Work:
    moved = batch * tokens * heads.token_bytes
    return Work(read_bytes=moved, written_bytes=moved)


def rope_append_kv(heads: Heads, *, batch: int, tokens: int) -> Work:
    moved = heads.token_bytes + heads.num_qo_heads * heads.head_dim * heads.element_size
    return Work(read_bytes=batch * tokens * moved, written_bytes=batch * tokens * moved)


def fused_add_rms_norm(*, rows: int, width: int, element_size: int = 2) -> Work:
    moved = 2 * rows * width * element_size
    return Work(read_bytes=moved, written_bytes=moved)


def silu_and_mul(*, rows: int, width: int, element_size: int = 2) -> Work:
    """width: of the results."""
    size = rows * width * element_size
    return Work(read_bytes=2 * size, written_bytes=size)


def compact_kv(heads: Heads, *, layers: int, batch: int, moved: int) -> Work:
    """moved: tokens of a request that are not in place yet."""
    size = layers * batch * moved * heads.token_bytes
    return Work(read_bytes=size, written_bytes=size)


def tree_mask(*, batch: int, nodes: int) -> Work:
    return Work(
        read_bytes=batch * (nodes + 1) * INT,
        written_bytes=batch * nodes * (words(nodes) + 1) * INT,
    )


def sample(*, rows: int, vocab: int, element_size: int = 2) -> Work:
    return Work(read_bytes=rows * vocab * element_size, written_bytes=rows * INT)


def draft_topk(*, rows: int, vocab: int, k: int, element_size: int = 2) -> Work:
    """Ids and estimates of k guesses; the largest probability and the entropy of each row."""
    return Work(
        read_bytes=rows * vocab * element_size,
        written_bytes=rows * (k * (INT + FLOAT) + 2 * FLOAT),
    )


def sampling_probs(*, rows: int, vocab: int, element_size: int = 2) -> Work:
    return Work(read_bytes=rows * vocab * element_size, written_bytes=rows * vocab * FLOAT)


def linear(shapes: Sequence[tuple[int, int]], *, rows: int, bits: int, element_size: int) -> Work:
    """shapes: of weights [N, K]. Of 4 or 8 bits 32 have a scale in 16, and with 4 a minimum."""
    numbers = sum(n * k for n, k in shapes)
    halves = {4: 2, 8: 1}.get(bits, 0)
    return Work(
        read_bytes=numbers * (2 * bits + halves) // 16
        + rows * element_size * sum(k for _, k in shapes),
        written_bytes=rows * element_size * sum(n for n, _ in shapes),
        flops=2 * rows * numbers,
    )


def verify_tree(
    *, batch: int, nodes: int, visited: int, vocab: int, rejection: bool, element_size: int = 2
) -> Work:
    """visited: rows of a request that its walk comes to. rejection: each has a draft's law, too."""
    row_bytes = vocab * (element_size + FLOAT * rejection)
    return Work(
        read_bytes=batch * (visited * row_bytes + 2 * nodes * INT),
        written_bytes=batch * (nodes + 4) * INT,
    )
