"""A file appears whole or stays as it was."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

import pytest

from specbranch.files import require_writable, unfinished, write_whole


def test_content_and_folders(tmp_path):
    path = tmp_path / "new" / "file"
    write_whole(path, "ä")
    assert path.read_bytes() == "ä".encode()
    write_whole(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fail():
        with unfinished(tmp_path / "file") as beside:
            beside.write_text("half")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "before")

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_stays_one(tmp_path):
    null = tmp_path / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    write_whole(null, "gone")
    assert stat.S_ISCHR(null.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


def test_a_fifo_is_written_to(tmp_path):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()), daemon=True)
    reader.start()
    write_whole(fifo, "through")
    reader.join(10)
    assert got == ["through"]


def test_standard_output_keeps_what_it_has(tmp_path):
    """/dev/stdout leads to a file that the shell opened, and others write to."""
    code = (
        "from specbranch.files import write_whole; print('text', flush=True); "
        "write_whole('/dev/stdout', 'json')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "text\njson"


@pytest.mark.parametrize("levels", [1, 2])
def test_of_a_link_the_file_is_replaced(tmp_path, levels):
    real = tmp_path / "elsewhere" / "real"
    write_whole(real, "before")
    links = [tmp_path / f"link{level}" for level in range(levels)]
    for link, aim in zip(links, [real, *links], strict=False):
        link.symlink_to(aim)
    write_whole(links[-1], "after")
    assert real.read_text() == "after"
    assert all(link.is_symlink() for link in links)


def test_a_link_to_nothing_makes_the_file_that_it_names(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("new/file")
    write_whole(link, "content")
    assert link.is_symlink()
    assert (tmp_path / "new" / "file").read_text() == "content"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode_and_is_never_more_open(tmp_path, mode):
    path = tmp_path / "file"
    write_whole(path, "before")
    path.chmod(mode)
    with unfinished(path) as beside:
        beside.write_text("after")
        assert stat.S_IMODE(beside.stat().st_mode) == mode
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "after"


def test_a_long_name_leaves_room_for_the_name_beside(tmp_path):
    path = tmp_path / ("n" * 255)
    write_whole(path, "content")
    assert path.read_text() == "content"


def test_what_can_be_written_is_found_before(tmp_path):
    require_writable("out", None)
    require_writable("out", tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    require_writable("out", "/dev/null")
    (tmp_path / "file").write_text("content")
    for path in (tmp_path, tmp_path / "file" / "below", "/proc/none/file", "x" * 256):
        with pytest.raises(ValueError, match="out: expected a file that can be written, got"):
            require_writable("out", path)
    assert (tmp_path / "file").read_text() == "content"
