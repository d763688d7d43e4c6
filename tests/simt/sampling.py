"""sample, draft_topk, sampling_probs and verify_tree on the simulated device."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_uint8

import torch
from torch import Tensor

from tests.simt.device import Device, Schedule, device
from tests.simt.params import integers, pointers
from tests.simt.workspace import Workspace, WorkspaceNeed

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
COUPLINGS = {"gumbel": 0, "rejection": 1}
UNWRITTEN = 77
"""What results hold before a launch."""


class LogitsRows(Structure):
    _fields_ = [
        *pointers("data"),
        ("dtype", c_uint8),
        *integers("stride", "num_rows", "vocab_size"),
    ]

    @classmethod
    def of(cls, logits: Tensor) -> LogitsRows:
        return cls(logits.data_ptr(), DTYPES[logits.dtype], logits.stride(0), *logits.shape)


class Filters(Structure):
    _fields_ = pointers("temperature", "top_k", "top_p", "min_p")


class SamplingProbsParams(Structure):
    _fields_ = [
        ("logits", LogitsRows),
        ("filters", Filters),
        *pointers("probs"),
        *integers("probs_stride"),
    ]


class AllowedTokens(Structure):
    _fields_ = [*pointers("words"), *integers("stride")]


class SampleParams(Structure):
    _fields_ = [
        ("logits", LogitsRows),
        ("filters", Filters),
        *pointers("seed", "position"),
        ("allowed", AllowedTokens),
        *pointers("ids"),
    ]


class DraftTopkParams(Structure):
    _fields_ = [
        ("logits", LogitsRows),
        ("filters", Filters),
        *pointers("seed", "position", "token_ids"),
        *integers("k"),
        ("coupling", c_uint8),
        *pointers("ids", "estimates", "max_prob", "entropy"),
        *integers("ids_stride", "estimates_stride"),
    ]


class VerifyTreeParams(Structure):
    _fields_ = [
        *pointers("candidates", "parents", "n_nodes", "row_indptr", "target_logits"),
        ("logits_dtype", c_uint8),
        ("filters", Filters),
        *pointers("seed", "position", "draft_probs", "draw"),
        ("allowed", AllowedTokens),
        *pointers("path", "path_len", "next_token", "winner", "status"),
        *integers("candidates_stride", "parents_stride"),
        *integers("logits_stride", "probs_stride", "draw_stride", "path_stride"),
        *integers("batch_size", "max_nodes", "num_rows", "vocab_size"),
    ]


class SimulatedOps:
    """The ops under one schedule; every call checks that the tickets are left as they were."""

    def __init__(self, schedule: Schedule) -> None:
        self.device: Device = device("sampling")
        self.device.reset()
        self.device.set_schedule(schedule)
        self._kept: Workspace | None = None

    def keep_workspace(self, op: str, *shape: int) -> None:
        """Let all later calls share one workspace, as large as this op wants for this shape."""
        self._kept = Workspace(self.device, self._need(op, *shape))

    def sampling_probs(self, logits: Tensor, *filters: Tensor) -> Tensor:
        probs = self._result(logits.shape, torch.float32)
        params = SamplingProbsParams(
            self._logits(logits), self._filters(filters), probs.data_ptr(), probs.stride(0)
        )
        self._launch("sampling_probs", params, *logits.shape)
        return probs

    def sample(self, logits: Tensor, *arguments: Tensor) -> Tensor:
        *filters, seed, position = arguments[:6]
        ids = self._result(logits.shape[:1], torch.int32)
        params = SampleParams(
            self._logits(logits),
            self._filters(filters),
            self._read(seed, "seed"),
            self._read(position, "position"),
            self._allowed(*arguments[6:]),
            ids.data_ptr(),
        )
        self._launch("sample", params, *logits.shape)
        return ids

    def draft_topk(
        self, logits: Tensor, k: int, *arguments: Tensor | str | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        *filters, seed, position, coupling = arguments[:7]
        token_ids = arguments[7] if len(arguments) > 7 else None
        rows = logits.shape[0]
        ids = self._result((rows, k), torch.int32)
        estimates = self._result((rows, k), torch.float32)
        max_prob, entropy = (self._result((rows,), torch.float32) for _ in range(2))
        params = DraftTopkParams(
            self._logits(logits),
            self._filters(filters),
            self._read(seed, "seed"),
            self._read(position, "position"),
            self._read(token_ids, "token_ids"),
            k,
            COUPLINGS[coupling],
            *(t.data_ptr() for t in (ids, estimates, max_prob, entropy)),
            ids.stride(0),
            estimates.stride(0),
        )
        self._launch("draft_topk", params, *logits.shape)
        return ids, estimates, max_prob, entropy

    def verify_tree(
        self,
        candidates: Tensor,
        parents: Tensor,
        n_nodes: Tensor,
        row_indptr: Tensor,
        target_logits: Tensor,
        *arguments: Tensor | None,
    ) -> tuple[Tensor, ...]:
        *filters, seed, position = arguments[:6]
        draft_probs, draw, allowed = [*arguments[6:], None, None, None][:3]
        path = self._result(candidates.shape, torch.int32)
        results = [self._result(n_nodes.shape, torch.int32) for _ in range(4)]
        params = VerifyTreeParams(
            self._read(candidates, "candidates"),
            self._read(parents, "parents"),
            self._read(n_nodes, "n_nodes"),
            self._read(row_indptr, "row_indptr"),
            self._read(target_logits, "target_logits"),
            DTYPES[target_logits.dtype],
            self._filters(filters),
            self._read(seed, "seed"),
            self._read(position, "position"),
            self._read(draft_probs, "draft_probs"),
            self._read(draw, "draw"),
            self._allowed(allowed),
            *(t.data_ptr() for t in (path, *results)),
            candidates.stride(0),
            parents.stride(0),
            target_logits.stride(0),
            0 if draft_probs is None else draft_probs.stride(0),
            0 if draw is None else draw.stride(0),
            path.stride(0),
            *candidates.shape,
            *target_logits.shape,
        )
        self._launch("verify_tree", params, len(n_nodes), *target_logits.shape)
        return (path, *results)

    def _read(self, values: Tensor | None, name: str) -> int | None:
        return None if values is None else self.device.place(values, name).data_ptr()

    def _result(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        values = torch.full(shape, UNWRITTEN, dtype=dtype)
        return self.device.place(values, "result", writable=True)

    def _logits(self, logits: Tensor) -> LogitsRows:
        return LogitsRows.of(self.device.place(logits, "logits"))

    def _allowed(self, words: Tensor | None = None) -> AllowedTokens:
        stride = 0 if words is None else words.stride(0)
        return AllowedTokens(self._read(words, "allowed"), stride)

    def _filters(self, filters: list[Tensor]) -> Filters:
        names = ("temperature", "top_k", "top_p", "min_p")
        return Filters(*(self._read(f, n) for f, n in zip(filters, names, strict=True)))

    def _launch(self, op: str, params: Structure, *shape: int) -> None:
        """Twice: the second launch finds the workspace as the first left it."""
        need = self._need(op, *shape)
        workspace = self._kept or Workspace(self.device, need)
        workspace.allow(need)
        for _ in range(2):
            self.device.launch(op, params, need, workspace.memory)
            assert not workspace.tickets(need).any()

    def _need(self, op: str, *shape: int) -> WorkspaceNeed:
        need = WorkspaceNeed()
        self.device.call(f"{op}_workspace", *map(ctypes.c_long, shape), need)
        return need
