"""Texts in Arrow's columns, as Parquet files and datasets hold them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import FormatError, MetroFastError

ROWS_AT_ONCE = 1024


def check_text_type(kind: Any, where: str) -> None:
    """Whether a column of Arrow holds strings.

    Raises:
        MetroFastError: If it holds something else.
    """
    types = require("pyarrow", "data").types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise MetroFastError(f"{where} is of type {kind}, expected strings: give text_key")


def read_columns(columns: Iterator[Any], where: str) -> Iterator[str]:
    """The texts of Arrow columns, one column after another, blank ones left out.

    Raises:
        FormatError: If a text is missing or not UTF-8; the message names the row, from 0, of the
            range that `where` names.
    """
    row = 0
    try:
        for column in columns:
            for text in column.to_pylist():
                if text is None:
                    raise FormatError(f"{where}, row {row}: the text is null, expected a string")
                if text.strip():
                    yield text
                row += 1
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}, at or after row {row}: not UTF-8 ({error})") from error


@contextmanager
def told_as_damage(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises about damaged bytes into the error for damage.

    Raises:
        FormatError: For such an error.
    """
    pyarrow = require("pyarrow", "data")
    try:
        yield
    except pyarrow.ArrowException as error:
        raise FormatError(f"{path} is damaged: {error}") from error
    except OSError as error:  # pyarrow tells some damage so, without the system's number
        if error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged: {error}") from error
