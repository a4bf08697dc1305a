"""Reads texts from columns of Arrow, which Parquet files and datasets contain."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
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


def read_columns(columns: Iterator[Any], where: str) -> Iterator[str]:
    """The texts of Arrow columns, one column after another, without blank ones.

    Raises:
        FormatError: If a text is missing or not UTF-8. The message names the row, counted from 0 in
            the range that `where` names.
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
