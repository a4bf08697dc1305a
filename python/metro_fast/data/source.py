"""One input of `prepare`, whatever it is."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Source(ABC):
    """One input. It can be cut into ranges, and its documents read range by range.

    A source is sent to other processes: it holds a path or a dataset, and opens it where it is
    read.
    """

    @abstractmethod
    def record(self) -> list[Any]:
        """What tells this input from another, as JSON holds it."""

    @abstractmethod
    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """Ranges of about `piece_bytes` bytes of text, one at least, by the input alone.

        Raises:
            FormatError: If the input is damaged.
            MetroFastError: If it has no text under `text_key`.
            OSError: If it cannot be read.
        """

    @abstractmethod
    def read(self, start: int, stop: int, text_key: str) -> Iterator[str]:
        """The documents of a range, blank ones left out.

        Raises:
            FormatError: If the input is damaged; the message says where.
            OSError: If it cannot be read.
        """


def file_hash(path: Path) -> str:
    """Hash of a file's bytes: a name and a size would take a changed file for the old one.

    It reads well over 100 MB a second, where tokenizing takes in a few.
    """
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
