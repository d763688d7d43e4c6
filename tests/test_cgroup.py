"""What control groups leave, as their files say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from specbranch import cgroup
from specbranch.lanes.threads import usable_cores
from specbranch.models.memory import affordable_tokens
from tests.engine import tiny


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_without_groups_there_is_no_limit(root: Path) -> None:
    assert cgroup.quota() == float("inf")
    assert cgroup.free_memory() > 1 << 60


@pytest.mark.parametrize(
    ("limit", "quota"), [("max 100000", float("inf")), ("150000 100000", 1.5), ("5 10", 0.5)]
)
def test_the_quota_of_a_container(root: Path, limit: str, quota: float) -> None:
    write(root, membership="0::/\n", cpu_DOT_max=limit)
    assert cgroup.quota() == quota


def test_the_least_quota_of_groups_in_groups_counts(root: Path) -> None:
    write(root, membership="0::/slice/service\n", slice__cpu_DOT_max="200000 100000")
    write(root, slice__service__cpu_DOT_max="max 100000")
    assert cgroup.quota() == 2


def test_version_1(root: Path) -> None:
    write(root, membership="4:memory:/in/host\n1:cpu,cpuacct:/in/host\n0::/\n")
    folder = root / "cpu,cpuacct"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup.quota() == float("inf")
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    assert cgroup.quota() == 3
    (root / "memory").mkdir()
    (root / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    (root / "memory" / "memory.usage_in_bytes").write_text("900\n")
    (root / "memory" / "memory.stat").write_text("cache 500\ntotal_inactive_file 300\n")
    assert cgroup.free_memory() == 400


def test_lanes_keep_to_the_quota(root: Path) -> None:
    write(root, membership="0::/\n", cpu_DOT_max="100000 100000")
    assert len(usable_cores()) == 1
    write(root, cpu_DOT_max="max 100000")
    assert len(usable_cores()) == len(os.sched_getaffinity(0))


def test_a_cache_keeps_to_the_memory(root: Path) -> None:
    pair = tiny.pair()
    write(root, membership="0::/\n", memory_DOT_current="0", memory_DOT_stat="inactive_file 0\n")
    write(root, memory_DOT_max="max\n")
    assert affordable_tokens([pair.target], 1 << 12, least=1) == 1 << 12
    write(root, memory_DOT_max=str(1 << 20))
    bytes_of_token = 2 * 2 * 2 * 16 * 4  # keys and values of 2 layers, 2 heads of 16 floats
    with pytest.warns(UserWarning, match="cache_tokens: memory is short"):
        assert (
            affordable_tokens([pair.target], 1 << 12, least=1) == (1 << 20) // bytes_of_token // 2
        )
    with pytest.raises(ValueError, match="max_len: expected at most 2048 tokens, for which there"):
        affordable_tokens([pair.target], 1 << 12, least=1 << 12)
