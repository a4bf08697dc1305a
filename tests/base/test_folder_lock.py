"""One process at a time in a folder: real processes, killed ones, threads, forks, odd folders."""

import errno
import logging
import multiprocessing
import os
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from metro_fast import _folder_lock
from metro_fast._folder_lock import LOCK, is_empty, owned_folder
from metro_fast._temporary import remove_unfinished_writes
from metro_fast.errors import MetroFastError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests fork")
FORK = multiprocessing.get_context("fork")


def hold(folder, began, end):
    with owned_folder(folder):
        began.set()
        end.wait(60)


class Holder:
    """A process that owns a folder until it is asked to end, or is killed."""

    def __init__(self, folder: Path) -> None:
        self.began, self.end = FORK.Event(), FORK.Event()
        self.process = FORK.Process(target=hold, args=(folder, self.began, self.end))
        self.process.start()
        assert self.began.wait(60)


def test_the_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    holder = Holder(folder)
    refusal = f"another run writes to {folder}.*choose another"
    with pytest.raises(MetroFastError, match=refusal), owned_folder(folder):
        pass
    holder.end.set()
    holder.process.join(60)
    assert holder.process.exitcode == 0
    assert list(tmp_path.iterdir()) == [], "what was made for the lock alone is gone"
    with owned_folder(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = Holder(tmp_path)
    os.kill(holder.process.pid, signal.SIGKILL)
    holder.process.join(60)
    assert (tmp_path / LOCK).exists()
    assert is_empty(tmp_path)
    with owned_folder(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_another_thread_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    found: list[BaseException | None] = []

    def enter() -> None:
        try:
            with owned_folder(tmp_path):
                found.append(None)
        except MetroFastError as error:
            found.append(error)

    with owned_folder(tmp_path), owned_folder(tmp_path / "." / ".." / tmp_path.name):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    enter()
    assert isinstance(found[0], MetroFastError)
    assert found[1] is None


def test_a_fork_owns_nothing_and_ends_nothing(tmp_path: Path) -> None:
    with owned_folder(tmp_path):
        child = os.fork()
        if child == 0:
            try:  # in the `with` of its parent, whose thread has the same number
                with owned_folder(tmp_path):
                    os._exit(1)
            except MetroFastError:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / LOCK).exists()


def test_a_child_that_outlives_a_killed_process_keeps_no_lock(tmp_path: Path) -> None:
    """As a DataLoader's worker does for some seconds."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with owned_folder(tmp_path):
            child = os.fork()
            if (
                child == 0
            ):  # it reports itself, and so after the fork has closed its copy of the lock
                os.write(writer, f"{os.getpid()}\n".encode())
            signal.pause()
    child = int(os.read(reader, 100))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with owned_folder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


def test_a_child_that_leaves_the_with_of_its_parent(tmp_path: Path) -> None:
    pid = os.getpid()
    with owned_folder(tmp_path):
        child = os.fork()
    if os.getpid() != pid:
        os._exit(0)
    os.waitpid(child, 0)
    with owned_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        holder = FORK.Process(target=hold, args=(tmp_path, FORK.Event(), FORK.Event()))
        holder.start()
        holder.join(60)
        assert holder.exitcode == 1, "the lock is still that of this process"


def test_twenty_processes_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    """Each takes the lock again and again: the file is removed and made all the time."""
    count = tmp_path / "count"
    count.write_text("0")

    def work() -> None:
        done = 0
        while done < 20:
            try:
                with owned_folder(tmp_path / "run"):
                    before = int(count.read_text())
                    (tmp_path / "run" / "mine").touch(exist_ok=False)
                    (tmp_path / "run" / "mine").unlink()
                    count.write_text(f"{before + 1}")
                    done += 1
            except MetroFastError:
                continue

    processes = [FORK.Process(target=work) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert count.read_text() == "160"


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_folder_lock, "_lock", missing)
    with caplog.at_level(logging.WARNING), owned_folder(tmp_path / "run"):
        (tmp_path / "run" / "kept").touch()
    assert "without locks (No locks available)" in caplog.text
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links") as found, owned_folder(tmp_path):
        pass
    assert Path(found.value.filename) == tmp_path / LOCK
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OSError, match="run"), owned_folder(tmp_path / "run"):
        pass
    assert stat.S_ISREG((tmp_path / "run").stat().st_mode)


def test_only_our_temporary_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / ".new.0123abcd.tmp").mkdir()
    (tmp_path / ".new.0123abcd.tmp" / "half").touch()
    (tmp_path / "main" / ".config.json.89abcdef.tmp").touch()
    kept = ["mine.0123abcd.tmp", ".mine.tmp", ".mine.0123abcx.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".a.0123abcd.tmp").touch()
    remove_unfinished_writes(tmp_path, "main")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, "other/.a.0123abcd.tmp"}
