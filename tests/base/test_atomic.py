"""Files and folders that are whole or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metro_fast._atomic import (
    damaged_file,
    move_files,
    move_folder,
    sync_files,
    write_atomically,
    write_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(folder: Path) -> None:
    (folder / "a.txt").write_text("new")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.txt").write_text("new too")


def half(folder: Path) -> None:
    (folder / "a.txt").write_text("half")
    raise RuntimeError("stopped in the middle")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_whole(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "above" / "target"
    if there:
        target.mkdir(parents=True)
    assert write_folder(target, fill) == target
    assert names(tmp_path / "above") == [
        "target", "target/a.txt", "target/deep", "target/deep/b.txt",
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_folder(tmp_path / "target", fill)
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("keep_others", [False, True])
def test_an_exception_leaves_what_was_there_and_no_temporary(
    keep_others: bool, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    with pytest.raises(RuntimeError, match="in the middle"):
        write_folder(target, half, keep_others=keep_others)
    assert names(tmp_path) == []
    target.mkdir()
    (target / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"):
        write_folder(target, half, keep_others=True)
    assert names(tmp_path) == ["target", "target/a.txt"]
    assert (target / "a.txt").read_text() == "old"


def test_a_folder_with_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine.txt").write_text("old")
    with pytest.raises(OSError, match="target"):
        write_folder(tmp_path / "target", fill)
    assert names(tmp_path) == ["target", "target/mine.txt"]


def test_other_files_stay_if_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.txt").write_text("old")
    write_folder(tmp_path, fill, keep_others=True)
    assert names(tmp_path) == ["a.txt", "deep", "deep/b.txt", "mine.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("keep_others", [False, True])
def test_a_kill_in_the_middle_leaves_what_was_there(keep_others: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if keep_others:
        target.mkdir()
        (target / "a.txt").write_text("old")
    code = (
        "import os, signal, sys\n"
        "from metro_fast._atomic import write_folder\n"
        "def write(folder):\n"
        "    (folder / 'a.txt').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_folder(sys.argv[1], write, keep_others={keep_others})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    visible = [name for name in names(tmp_path) if "/." not in f"/{name}"]
    assert visible == (["target", "target/a.txt"] if keep_others else [])
    if keep_others:
        assert (target / "a.txt").read_text() == "old"
    write_folder(target, fill, keep_others=keep_others)  # and it removes what was left behind
    assert (target / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["target", "target/a.txt", "target/deep", "target/deep/b.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")
def test_files_and_their_folders_are_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name, and each file's content, is on the disk before anything points to it."""
    events: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to name what is synced")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    write_folder(tmp_path / "target", fill)
    events = ["temporary" if name.startswith(".target") else name for name in events]
    assert events == ["a.txt", "deep", "b.txt", "temporary", "rename", tmp_path.name]
    events.clear()


def test_moved_files_have_their_sizes_recorded(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a.txt").write_text("12345")
    sizes = move_files(source, target)
    assert sizes == {"a.txt": 5} == sync_files(target)
    assert not source.exists()
    assert damaged_file(target, sizes) is None
    (target / "a.txt").write_text("1234")
    assert "does not have its 5 bytes" in (damaged_file(target, sizes) or "")
    move_folder(target, source)
    assert names(tmp_path) == ["source", "source/a.txt"]
