"""The pieces into which inputs are cut, and the marks of finished pieces."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metro_fast._atomic import move_files, write_atomically
from metro_fast._json import parse_json
from metro_fast.data.source import Source
from metro_fast.errors import FormatError, MetroFastError

MARKS = "pieces"
COUNTS = "counts"
UNKNOWN = "unknown tokens"
UNFINISHED = "unfinished"
END_BYTES = 8  # of the end of a document in an index
MOST_PIECES = 100_000  # token files are sorted by name, and datatrove writes five digits


class Piece(NamedTuple):
    """A range of one source. Its index in the list is the number of its token file."""

    source: int
    start: int
    stop: int


def cut(sources: Iterable[Source], piece_bytes: int, text_key: str) -> list[Piece]:
    """Cut inputs into pieces, which depend only on the inputs and on `piece_bytes`.

    Raises:
        MetroFastError: If there are too many pieces.
        FormatError: If an input is damaged.
        OSError: If an input cannot be read.
    """
    pieces = [
        Piece(number, start, stop)
        for number, source in enumerate(sources)
        for start, stop in source.cut(piece_bytes, text_key)
    ]
    if len(pieces) > MOST_PIECES:
        raise MetroFastError(
            f"piece_bytes is {piece_bytes}, which gives {len(pieces)} pieces, expected at most "
            f"{MOST_PIECES}: use a larger piece_bytes"
        )
    return pieces


def is_done(work: Path, number: int) -> bool:
    """Whether a piece is done; if so, its files have their final names."""
    return _mark(work, number).exists()


def mark_done(work: Path, number: int, made: Path, unknown: int | None) -> None:
    """Move the files of a piece to their places, and then write its mark.

    Args:
        work: The work folder.
        number: Number of the piece.
        made: Folder that holds only its files; it is removed.
        unknown: Id of unknown tokens, which are counted.

    Raises:
        OSError: If the folder cannot be written.
    """
    counts = [int(path.read_text().splitlines()[1]) for path in made.glob("*.metadata")]
    unknowns = sum(_count_id(path, unknown) for path in made.glob("*.ds"))
    ends = sum(path.stat().st_size for path in made.glob("*.index"))
    sizes = move_files(made, work)
    mark = {
        "files": sizes,
        "documents": ends // END_BYTES,
        "tokens": sum(counts),
        UNKNOWN: unknowns,
    }
    write_atomically(_mark(work, number), json.dumps(mark) + "\n")


def _count_id(path: Path, index: int | None) -> int:
    """How often an id occurs in a token file."""
    if index is None or path.stat().st_size == 0:
        return 0
    first = path.with_name(f"{path.name}.metadata").read_text().splitlines()[0]
    ids = np.memmap(path, dtype=f"<u{first.rpartition('|')[2]}", mode="r")
    return int(np.count_nonzero(ids == index))


def write_counts(work: Path, number: int, counts: Counter[str]) -> None:
    """Write what was left out of a piece or changed in it.

    Raises:
        OSError: If the folder cannot be written.
    """
    kept = {name: count for name, count in counts.items() if count}
    if (work / COUNTS).is_dir():  # a finished folder must not come back
        write_atomically(work / COUNTS / f"{number:05d}.json", json.dumps(kept) + "\n")


def tokens_so_far(work: Path, pieces: int) -> int:
    """Number of tokens in the pieces that are done."""
    return sum(
        _read_mark(work, number)["tokens"] for number in range(pieces) if is_done(work, number)
    )


def count(work: Path, pieces: int) -> Counter[str]:
    """Numbers of documents and tokens in all pieces, and of what was left out or changed.

    Raises:
        MetroFastError: If a piece is not done.
        FormatError: If a file of a piece is missing or cut.
    """
    missing = [number for number in range(pieces) if not is_done(work, number)]
    if missing:
        named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise MetroFastError(
            f"{len(missing)} of {pieces} pieces in {work} are not done ({named}): run the "
            "executor again, which does only the missing ones"
        )
    total: Counter[str] = Counter({"documents": 0, "tokens": 0})
    for number in range(pieces):
        mark, counted = _read_mark(work, number), work / COUNTS / f"{number:05d}.json"
        # Pieces that an earlier version made have not counted what is unknown.
        total.update({name: mark.get(name, 0) for name in ("documents", "tokens", UNKNOWN)})
        total.update(parse_json(counted.read_bytes(), counted))
    return total


def _read_mark(work: Path, number: int) -> dict[str, Any]:
    """The mark of a piece, after a look at its files."""
    mark = _mark(work, number)
    values: dict[str, Any] = parse_json(mark.read_bytes(), mark)
    for name, size in values["files"].items():
        path = work / name
        if not path.is_file() or path.stat().st_size != size:
            raise FormatError(
                f"{path} is missing or does not have the expected {size} bytes: remove {mark} and "
                "run again"
            )
    return values


def _mark(work: Path, number: int) -> Path:
    return work / MARKS / f"{number:05d}.json"
