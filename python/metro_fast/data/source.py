"""The base of all inputs of `prepare`."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metro_fast._regular import open_regular


class Source(ABC):
    """One input, which can be cut into ranges and read range by range.

    A source is sent to other processes, so it holds a path or a dataset, and opens it only to read
    it.

    Attributes:
        is_file: Whether it is a single file, and not a dataset.
    """

    is_file = False

    @abstractmethod
    def record(self) -> list[Any]:
        """Values that distinguish this input from others, as plain JSON."""

    @abstractmethod
    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """Ranges of about `piece_bytes` bytes of text, at least one. They depend only on the input.

        Raises:
            FormatError: If the input is damaged.
            MetroFastError: If it has no text under `text_key`.
            OSError: If it cannot be read.
        """

    @abstractmethod
    def read(
        self, start: int, stop: int, text_key: str, counts: Counter[str] | None = None
    ) -> Iterator[str]:
        """The documents of a range, without blank ones.

        Args:
            start: Start of the range.
            stop: End of the range.
            text_key: Key or column of the text.
            counts: Where to count what is left out or changed.

        Raises:
            FormatError: If the input is damaged; the message says where.
            OSError: If it cannot be read.
        """


def file_hash(path: Path) -> str:
    """Hash of a file's bytes; by name and size alone, a changed file could pass for the old one.

    It reads well over 100 MB per second, while tokenization reads a few.
    """
    with open_regular(path) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
