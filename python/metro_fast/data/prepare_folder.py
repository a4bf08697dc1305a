"""The folders of `prepare`: the work folder, locked and resumable, and the finished one."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._atomic import damaged_file, move_folder, sync_files, write_atomically
from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast.data.pieces import MARKS, UNFINISHED, count_tokens
from metro_fast.errors import FormatError, MetroFastError

_logger = logging.getLogger(__name__)

RECORD = "prepare.json"
_FILES = "files"


def work_folder(final: Path) -> Path:
    """The folder of unfinished work: hidden, next to the final folder, on the same file system."""
    return final.absolute().with_name(f".{final.absolute().name}.preparing")


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Keep other processes out of the work folder; the lock ends with the process that holds it.

    Raises:
        MetroFastError: If another process uses the folder.
        OSError: If the folder above cannot be written.
    """
    filelock = require("filelock", "train")
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(work.with_name(f"{work.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise MetroFastError(
            f"another process is preparing this output (it holds {lock.lock_file}): wait for it, "
            "or choose another output"
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def is_finished(final: Path, record: dict[str, Any] | None) -> bool:
    """Whether `final` already is the complete result of a call with this record (None: any).

    Raises:
        MetroFastError: If it holds anything else.
        FormatError: If it is that result, but a file is missing or cut.
    """
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return False
    made = final / RECORD
    if not made.is_file():
        raise MetroFastError(f"{final} is not empty and is not a corpus: choose another output")
    before = _read(made)
    files = before.pop(_FILES, {})
    if record is not None and before != record:
        raise MetroFastError(
            f"{final} was made with other inputs, other options or another tokenizer (see {made}): "
            "remove it or choose another output"
        )
    damage = damaged_file(final, files)
    if damage is not None:
        raise FormatError(f"{damage}: the corpus is damaged, remove {final} and make it again")
    _logger.info("%s is already finished", final)
    return True


def begin(work: Path, record: dict[str, Any]) -> None:
    """Make the work folder, or keep the work of an interrupted call with the same record."""
    made = work / RECORD
    if work.exists() and not (made.is_file() and _read(made) == record):
        _logger.info("%s belongs to another call: starting over", work)
        shutil.rmtree(work)
    if not work.exists():
        work.mkdir(parents=True)
        (work / UNFINISHED).mkdir()
        made.write_text(json.dumps(record, indent=2) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a folder.

    Raises:
        FormatError: If it is damaged.
        OSError: If it cannot be read.
    """
    return _read(folder / RECORD)


def finish(work: Path, final: Path, record: dict[str, Any]) -> None:
    """Check that every piece is done, record every file, and move the folder into place.

    Raises:
        MetroFastError: If a piece is not done, or there are no tokens.
        FormatError: If a file of a piece is missing or cut.
        OSError: If the folder cannot be moved.
    """
    if count_tokens(work, record["pieces"]) == 0:
        raise MetroFastError("the inputs hold no documents: there is nothing to tokenize")
    (work / "backend.json").unlink(missing_ok=True)
    # Remains of killed tasks, and datatrove's logs if they were kept here.
    for name in (MARKS, UNFINISHED, "logs"):
        if (work / name).exists():
            shutil.rmtree(work / name)
    files = sync_files(work, but=RECORD)
    write_atomically(work / RECORD, json.dumps({**record, _FILES: files}, indent=2) + "\n")
    move_folder(work, final)


def _read(made: Path) -> dict[str, Any]:
    record = parse_json(made.read_bytes(), made)
    if not isinstance(record, dict):
        raise FormatError(f"{made} holds a {type(record).__name__}: remove its folder")
    return record
