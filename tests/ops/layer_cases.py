"""Random inputs of rope_append_kv_, and how near a kernel comes to the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.cases import DTYPES, generators, int32, ragged_batches, random_pages, row_indptr_of
from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS

ULPS = {torch.float32: 2**-20, torch.float16: 2**-10, torch.bfloat16: 2**-7}
POSITIONS = 50


def assert_rounded(got: Tensor, wanted: Tensor) -> None:
    """got is `wanted`, float64, to a unit in the last place of its dtype; in float32 to eight,
    relative to the largest of the row."""
    assert got.shape == wanted.shape
    scale = wanted.abs()
    if got.dtype is torch.float32 and wanted.numel():
        scale = scale.amax(-1, keepdim=True)
    tiny = 1e-6 if got.dtype is torch.float16 else 1e-12
    assert ((got.double() - wanted).abs() <= ULPS[got.dtype] * scale + tiny).all()


@dataclass
class RopeCase:
    """Arguments of rope_append_kv_, in its order."""

    q: Tensor
    k: Tensor
    v: Tensor
    k_cache: Tensor
    v_cache: Tensor
    block_table: Tensor
    start: Tensor
    row_indptr: Tensor
    position_ids: Tensor
    cos: Tensor
    sin: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    eps: float
    offset: float

    def arguments(self) -> dict:
        return vars(self)

    def copied(self) -> RopeCase:
        values = (getattr(self, field.name) for field in fields(self))
        return RopeCase(*(v.clone() if isinstance(v, Tensor) else v for v in values))

    def check(self, before: RopeCase, expected: RopeCase) -> None:
        """That rows of requests are as expected, and nothing else has changed.

        before: as it was. expected: after the reference, whose results are rounded once.
        """
        rows = int(self.row_indptr[-1])
        near = {"rtol": 2 * ULPS[self.q.dtype], "atol": 1e-5}
        torch.testing.assert_close(self.q[:rows], expected.q[:rows], **near)
        torch.testing.assert_close(self.k_cache, expected.k_cache, **near, equal_nan=True)
        same = {"rtol": 0, "atol": 0, "equal_nan": True}
        torch.testing.assert_close(self.q[rows:], before.q[rows:], **same)
        torch.testing.assert_close(self.v_cache, expected.v_cache, **same)


@st.composite
def rope_cases(draw: st.DrawFn, page_sizes: list[int]) -> RopeCase:
    """Slots that nothing is written to, and padding, are NaN."""
    generator, dtype = draw(generators()), draw(st.sampled_from(DTYPES))
    batch = draw(ragged_batches(9, max_context=40))
    heads, kv_heads = draw(st.sampled_from([(1, 1), (4, 1), (6, 2), (5, 5)]))
    head_dim = draw(st.sampled_from([8, 24, 64, 100, 256]))
    rotated = draw(st.sampled_from([head_dim, head_dim // 2, 2, 0]))
    page_size = draw(st.sampled_from(page_sizes))
    layouts = draw(st.tuples(*3 * [st.sampled_from(HEAD_LAYOUTS)]))
    rows = [n for _, _, n in batch]
    ends = [start + n if n else 0 for (start, _, _), n in zip(batch, rows, strict=True)]
    pages = random_pages(ends, page_size, generator)

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(dtype)

    total = sum(rows) + draw(st.integers(0, 2))
    q, k, v = random(total, heads, head_dim), *random(2, total, kv_heads, head_dim)
    for padded in (q, k, v):
        padded[sum(rows) :] = math.nan
    caches = torch.full((2, pages.n_pages, page_size, kv_heads, head_dim), math.nan).to(dtype)
    angles = torch.randn(POSITIONS, rotated // 2, generator=generator)
    positions = torch.randint(0, POSITIONS, (total,), generator=generator, dtype=torch.int32)
    positions[sum(rows) :] = 2**31 - 1
    norms = [random(head_dim) if draw(st.booleans()) else None for _ in "qk"]
    return RopeCase(
        layouts[0](q),
        layouts[1](k),
        layouts[1](v),
        *(layouts[2](cache) for cache in caches),
        draw(st.sampled_from(MATRIX_LAYOUTS))(pages.block_table),
        int32([start for start, _, _ in batch]),
        row_indptr_of(rows),
        positions,
        angles.cos(),
        angles.sin(),
        *norms,
        1e-6,
        draw(st.sampled_from([0.0, 1.0])),
    )
