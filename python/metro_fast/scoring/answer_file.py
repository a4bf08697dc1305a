"""The file behind `AnswerStore`: checked values by key, in a database of SQLite."""

import contextlib
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from metro_fast.errors import FormatError, MetroFastError

__all__ = ["AnswerFile"]

_APPLICATION = 0x4D465341  # "MFSA" in the header of the file
_VERSION = 1
_WAIT_SECONDS = 60
_AT_ONCE = 500  # keys per SELECT


class AnswerFile:
    """Values by key, in a file that threads and processes share.

    A value carries a checksum of key and value. SQLite's rollback journal is used and not its
    write-ahead log, which needs memory that all processes share, and leaves answers in a second
    file; a write takes two calls of fsync more, of which the engine makes one per call.

    Args:
        path: The file; it and its folder are made when absent.

    Raises:
        FormatError: If the file is something else, is damaged, or was written by a newer version.
        OSError: If the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._explained("open"):
                # An absolute path, because SQLite gives a meaning to ":memory:" and "".
                self._connection = sqlite3.connect(
                    path.absolute(), timeout=_WAIT_SECONDS, isolation_level=None,
                    check_same_thread=False,
                )  # fmt: skip
                with self._transaction() as connection:
                    self._prepare(connection)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        with self._reading() as connection:
            (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._connection is None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def get(self, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Look up keys.

        Returns:
            The values that are there, and the keys whose values do not fit their checksums.
        """
        rows: dict[bytes, object] = {}
        with self._reading() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows.update(
                    connection.execute(
                        f"SELECT key, value FROM answers WHERE key IN ({marks})", part
                    )
                )
        whole = {
            key: value[:-4]
            for key, value in rows.items()
            if isinstance(value, bytes) and value[-4:] == _checksum(key + value[:-4])
        }
        return whole, rows.keys() - whole.keys()

    def add(self, rows: Mapping[bytes, bytes], replaced: Iterable[bytes]) -> None:
        """Add values in one transaction.

        Args:
            rows: The values; those whose keys are there already are left out.
            replaced: The keys whose values are removed before.
        """
        with self._explained("write to"), self._transaction() as connection:
            connection.executemany("DELETE FROM answers WHERE key = ?", [(k,) for k in replaced])
            connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)",
                [(key, value + _checksum(key + value)) for key, value in rows.items()],
            )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check that the file is ours, or make it so; it is written to in any case."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (application or version or tables):
            raise FormatError(
                f"{self._path} is a database of another program, and not a store of answers: "
                "choose another file"
            )
        if version > _VERSION:
            raise FormatError(
                f"{self._path} has version {version} of the store, this program reads {_VERSION}: "
                "update metro_fast, or choose another file"
            )
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL) "
            "WITHOUT ROWID"
        )

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise MetroFastError(f"the store {self._path} is closed: open it again")
        if self._process != os.getpid():
            raise MetroFastError(
                f"the store {self._path} was opened by another process: open it in each of them"
            )
        return self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained("read"):
            yield self._open()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All writes of the body or none of them; other processes wait."""
        with self._lock:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """SQLite's errors as ours, with the path and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_NOTADB:
                raise FormatError(
                    f"{self._path} is not a store of answers: choose another file"
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
                raise FormatError(
                    f"the store {self._path} is damaged ({error}): remove it, and the answers are "
                    "computed again"
                ) from error
            advice = {
                sqlite3.SQLITE_FULL: "make room on the disk",
                sqlite3.SQLITE_BUSY: f"another process has locked it for {_WAIT_SECONDS} s",
            }.get(code, "choose a file in a folder that can be written to")
            raise OSError(f"cannot {action} the store {self._path} ({error}): {advice}") from error


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
