"""Reads texts from columns of Arrow, which Parquet files and datasets contain."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.data.reading import ADVICE, READING, Reading
from metro_fast.errors import FormatError, MetroFastError

ROWS_AT_ONCE = 1024


def check_text_type(kind: Any, where: str) -> None:
    """Check that a column of Arrow holds strings.

    Raises:
        MetroFastError: If it holds values of another type.
    """
    types = require("pyarrow", "data").types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise MetroFastError(f"{where} is of type {kind}, expected strings: give text_key")


def read_columns(
    columns: Iterator[Any],
    where: str,
    reading: Reading = READING,
    counts: Counter[str] | None = None,
) -> Iterator[str]:
    """The texts of Arrow columns, one column after another, without blank ones.

    Args:
        columns: The columns.
        where: The range that they are, for messages.
        reading: What happens to texts that are not UTF-8.
        counts: Where to count what is left out or changed.

    Raises:
        FormatError: If a text is missing or not UTF-8. The message names the row, counted from 0 in
            the range that `where` names.
    """
    counts = Counter() if counts is None else counts
    row = 0
    for column in columns:
        for text in _texts(column, reading, f"{where}, at or after row {row}"):
            if text is None:
                raise FormatError(f"{where}, row {row}: the text is null, expected a string")
            accepted = reading.accept(text, counts)
            if accepted is not None:
                yield accepted
            row += 1


def _texts(column: Any, reading: Reading, where: str) -> list[str | None]:
    """The texts of a column; Arrow does not check that they are UTF-8."""
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError as error:
        if reading.on_bad_text == "error":
            raise FormatError(f"{where}: not UTF-8 ({error}): {ADVICE}") from error
        pyarrow = require("pyarrow", "data")
        if pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        view = pyarrow.types.is_string_view(column.type)
        values = column.cast(pyarrow.binary_view() if view else pyarrow.large_binary()).to_pylist()
        return [None if v is None else v.decode("utf-8", reading.errors) for v in values]
    return texts


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors about damaged bytes into a `FormatError`.

    Raises:
        FormatError: If pyarrow raises such an error.
    """
    pyarrow = require("pyarrow", "data")
    try:
        yield
    except pyarrow.ArrowException as error:
        raise FormatError(f"{path} is damaged: {error}") from error
    except OSError as error:  # pyarrow reports some damage without an errno
        if error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged: {error}") from error
