"""The folders of `prepare`: the work folder, locked and resumable, and the finished one."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._atomic import damaged_file, move_folder, sync_files, write_atomically
from metro_fast._folder_lock import is_empty, locked_file
from metro_fast._json import parse_json
from metro_fast.data.pieces import COUNTS, MARKS, UNFINISHED, count
from metro_fast.errors import FormatError, MetroFastError

_logger = logging.getLogger(__name__)

RECORD = "prepare.json"
BACKEND = "backend.json"
FORMAT = "metro_fast prepare 3"
_FOUND = "found.json"
# What a record has besides the arguments of its call.
_FILES, _COUNTS = "files", "counts"


def work_folder(final: Path) -> Path:
    """The folder of unfinished work: hidden, next to the final folder, on the same file system."""
    return final.absolute().with_name(f".{final.absolute().name}.preparing")


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Keep other processes out of the work folder; the lock ends with the process that holds it.

    The file is beside the folder, which a new call may remove and the last step renames.

    Raises:
        MetroFastError: If another process uses the folder.
        OSError: If the folder above cannot be written.
    """
    file = work.with_name(f"{work.name}.lock")
    with locked_file(
        file,
        f"another process is preparing this output (it holds {file}): wait for it, or choose "
        "another output",
    ):
        yield


def is_finished(final: Path, record: dict[str, Any] | None) -> bool:
    """Whether `final` already is the complete result of a call with this record (None: any).

    Raises:
        MetroFastError: If it holds anything else.
        FormatError: If it is that result, but a file is missing or cut.
    """
    if not final.exists() or (final.is_dir() and is_empty(final)):
        return False
    made = final / RECORD
    if not made.is_file():
        raise MetroFastError(f"{final} is not empty and is not a corpus: choose another output")
    whole = _read(made)
    files, before = whole.get(_FILES, {}), _without_results(whole)
    if before.get("format") != FORMAT and record is not None:
        raise MetroFastError(
            f"{final} was made by another version of prepare ({before.get('format')}, and this is "
            f"{FORMAT}), which read texts by other rules: remove it or choose another output"
        )
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


def begin(work: Path, record: dict[str, Any], found: dict[str, int]) -> None:
    """Make the work folder, or keep the work of an interrupted call with the same record.

    Args:
        work: The folder.
        record: The arguments of the call.
        found: Numbers of inputs, and of the entries of folders that are left out.
    """
    if work.exists() and not _is_of(work / RECORD, record):
        _logger.warning("%s is not the work of this call: starting over", work)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    # Also in a folder that is there: a call may have died while it made or removed them.
    (work / UNFINISHED).mkdir(exist_ok=True)
    (work / COUNTS).mkdir(exist_ok=True)
    write_atomically(work / RECORD, json.dumps(record, indent=2) + "\n")
    write_atomically(work / _FOUND, json.dumps(found) + "\n")


def _is_of(made: Path, record: dict[str, Any]) -> bool:
    """Whether a record is that of this call; one that cannot be read is another's."""
    try:
        found = _read(made)
    except (FormatError, OSError):
        return False
    return _without_results(found) == record


def _without_results(record: dict[str, Any]) -> dict[str, Any]:
    """The arguments of its call that a record holds."""
    return {name: value for name, value in record.items() if name not in (_FILES, _COUNTS)}


def finish_complete(work: Path, final: Path, record: dict[str, Any]) -> bool:
    """Move work into place that a call with this record had completed when it died.

    Returns:
        Whether there was such work.

    Raises:
        OSError: If the folder cannot be moved.
    """
    if not _is_of(work / RECORD, record):
        return False
    files = _read(work / RECORD).get(_FILES)
    if files is None or damaged_file(work, files) is not None:
        return False
    _move(work, final)
    return True


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a folder.

    Raises:
        FormatError: If it is damaged.
        OSError: If it cannot be read.
    """
    return _read(folder / RECORD)


def read_counts(folder: Path) -> dict[str, int]:
    """Numbers of inputs, documents and tokens of a finished folder, and of what it leaves out.

    Raises:
        FormatError: If the record is damaged.
        OSError: If it cannot be read.
    """
    counts: dict[str, int] = _read(folder / RECORD).get(_COUNTS, {})
    return counts


def finish(work: Path, final: Path, record: dict[str, Any]) -> None:
    """Check that every piece is done, record every file, and move the folder into place.

    Raises:
        MetroFastError: If a piece is not done, or there are no tokens.
        FormatError: If a file of a piece is missing or cut.
        OSError: If the folder cannot be moved.
    """
    if finish_complete(work, final, _without_results(record)):
        return
    counts = count(work, record["pieces"])
    if counts["tokens"] == 0:
        raise MetroFastError("the inputs hold no documents: there is nothing to tokenize")
    found = parse_json((work / _FOUND).read_bytes(), work / _FOUND)
    # Remains of killed tasks, and datatrove's logs if they were kept here, are removed below.
    helpers = (BACKEND, _FOUND, MARKS, COUNTS, UNFINISHED, "logs")
    files = {
        name: size
        for name, size in sync_files(work, but=RECORD).items()
        if Path(name).parts[0] not in helpers and not _is_temporary(work / name)
    }
    # From here on the same call only moves the folder.
    whole = {**record, _COUNTS: {**found, **counts}, _FILES: files}
    write_atomically(work / RECORD, json.dumps(whole, indent=2) + "\n")
    _move(work, final)


def _move(work: Path, final: Path) -> None:
    """Remove what only the work needed, and move the folder whose record is whole into place."""
    for path in work.iterdir():
        if path.name in (MARKS, COUNTS, UNFINISHED, "logs"):
            shutil.rmtree(path)
        elif path.name in (BACKEND, _FOUND) or _is_temporary(path):
            path.unlink()
    move_folder(work, final)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _read(made: Path) -> dict[str, Any]:
    record = parse_json(made.read_bytes(), made)
    if not isinstance(record, dict):
        raise FormatError(f"{made} holds a {type(record).__name__}: remove its folder")
    return record
