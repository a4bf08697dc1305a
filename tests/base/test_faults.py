"""Commands that write, when a call to the system fails, the disk is full or the process dies.

`python tests/support/fault_table.py` attacks every call; here are some of each command.
"""

import os
import sys
from pathlib import Path

import pytest

from fault_checks import renamed_unsynced, unsynced
from fault_table import table
from faults import COMPILER, Call
from metro_fast import MetroFastError
from metro_fast._atomic import write_atomically, write_folder
from metro_fast._temporary import temporary_file, temporary_folder
from metro_fast.data import finish_prepare, prepare
from metro_fast.experts import decompress, export

linux = pytest.mark.skipif(sys.platform != "linux", reason="the faults need LD_PRELOAD and /proc")


# Twenty commands, each run 20 times: 40 s.
@linux
@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.timeout(900)
def test_a_fault_at_any_call_leaves_the_old_or_the_new_state_and_the_same_call_goes_on() -> None:
    for module in ("torch", "peft", "nevergrad", "datatrove"):
        pytest.importorskip(module)
    rows = table("fault_cases", most=6)
    assert [row["wrong"] for row in rows if row["wrong"]] == []
    assert all(row["went_on"] == row["points"] > 0 for row in rows)
    assert {state for row in rows for state in row["states"]} <= {
        "old", "new", "refused", "the first", "the second"
    }  # fmt: skip


def test_a_rename_before_the_sync_is_found() -> None:
    write = Call(1, "write", "/a/.x.tmp", "", 5)
    sync = Call(2, "fsync", "/a/.x.tmp", "", 5)
    rename = Call(3, "rename", "/a/.x.tmp", "/a/x", 0)
    assert list(renamed_unsynced([write, sync, rename])) == []
    assert unsynced([write, sync, rename]) == set()
    assert len(list(renamed_unsynced([write, rename]))) == 1
    folder = Call(3, "rename", "/a", "/b", 0)
    assert len(list(renamed_unsynced([write, folder]))) == 1
    assert unsynced([write, rename]) == {5}


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell a dead temporary")
def test_only_the_temporaries_of_dead_saves_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "expert"
    dead = tmp_path / ".expert.00000000.tmp"
    dead.write_text("half")
    with temporary_file(target) as (running, _):  # takes the name of the dead one
        assert running == dead
        assert running.read_bytes() == b""
        write_atomically(target, "another save beside it")
        assert running.exists()
        with temporary_folder(target) as folder:
            assert sorted(path.name for path in tmp_path.iterdir()) == [
                ".expert.00000000.tmp", ".expert.00000001.tmp", "expert",
            ]  # fmt: skip
            (folder / "file").write_text("half")
    assert [path.name for path in tmp_path.iterdir()] == ["expert"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links and pipes")
def test_what_a_stranger_put_in_the_place_of_a_temporary_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".a.00000000.tmp").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / ".a.00000001.tmp")
    assert write_atomically(tmp_path / "a", "new").read_text() == "new"
    assert (tmp_path / "precious").read_text() == "mine"


def test_empty_paths_and_links_to_nothing_are_refused(tmp_path: Path) -> None:
    doors = [
        lambda path: write_atomically(path, ""),
        lambda path: write_folder(path, lambda folder: None),
        lambda path: decompress("expert", path),
        lambda path: export({}, path),
        lambda path: finish_prepare(path),
        lambda path: prepare("text.txt", path, "tokenizer"),
    ]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for door in doors[:-1]:
        with pytest.raises(MetroFastError, match="the path to write to is empty"):
            door("")
        with pytest.raises(MetroFastError, match="nowhere, which does not exist"):
            door(link)
    with pytest.raises(MetroFastError, match="the path to write to is empty"):
        doors[-1]("")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "out", tmp_path / "file"):
        with pytest.raises(OSError, match="file"):
            write_folder(path, lambda folder: None, keep_others=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_a_library_closed_to_others_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_folder(tmp_path / "out", _private)
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "private").stat().st_mode & 0o777 == 0o640


def _private(folder: Path) -> None:
    """safetensors 0.8 makes such files."""
    os.close(os.open(folder / "private", os.O_CREAT | os.O_WRONLY, 0o600))
