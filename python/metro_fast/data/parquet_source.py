"""Parquet files, of which a column of text is read a few rows at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.data.arrow_text import (
    ROWS_AT_ONCE,
    check_text_type,
    damage_explained,
    read_columns,
)
from metro_fast.data.reading import READING, Reading
from metro_fast.data.source import Source, file_hash
from metro_fast.errors import MetroFastError


class ParquetFile(Source):
    """A Parquet file with a column of strings. Ranges count row groups.

    Row groups are read one after another and in slices, so that only one slice of rows and the
    compressed text column of one row group are in memory.
    """

    is_file = True

    def __init__(self, path: Path, reading: Reading = READING) -> None:
        self._path, self._reading = path.absolute(), reading

    def record(self) -> list[Any]:
        """Name and hash."""
        return [self._path.name, file_hash(self._path)]

    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """Consecutive row groups whose uncompressed text has at least `piece_bytes`."""
        with self._open() as file:
            schema = file.schema_arrow
            if text_key not in schema.names:
                raise MetroFastError(
                    f"{self._path} has no column {quoted(text_key)}, only {schema.names[:8]}: "
                    "give text_key"
                )
            check_text_type(schema.field(text_key).type, f"{self._path}, column {quoted(text_key)}")
            groups, column = file.metadata, schema.names.index(text_key)
            sizes = [
                groups.row_group(group).column(_leaf(file, column)).total_uncompressed_size
                for group in range(groups.num_row_groups)
            ]
        ranges, start, held = [], 0, 0
        for group, size in enumerate(sizes):
            held += size
            if held >= piece_bytes:
                ranges.append((start, group + 1))
                start, held = group + 1, 0
        if start < len(sizes) or not ranges:
            ranges.append((start, len(sizes)))
        return ranges

    def read(
        self, start: int, stop: int, text_key: str, counts: Counter[str] | None = None
    ) -> Iterator[str]:
        """The texts of a range of row groups."""
        with self._open() as file:
            for group in range(start, stop):
                # One call per group, because a call for several keeps all that it has read.
                slices = file.iter_batches(
                    batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[text_key]
                )
                yield from read_columns(
                    (rows.column(0) for rows in slices),
                    f"{self._path}, row group {group}",
                    self._reading,
                    counts,
                )

    @contextmanager
    def _open(self) -> Iterator[Any]:
        parquet = require("pyarrow.parquet", "data")
        with (
            damage_explained(self._path),
            parquet.ParquetFile(self._path, pre_buffer=False) as file,
        ):
            yield file


def _leaf(file: Any, column: int) -> int:
    """Index of a string column among the leaves, since a column before it may have several."""
    name = file.schema_arrow.names[column]
    leaves = [file.schema.column(leaf).path for leaf in range(len(file.schema))]
    return leaves.index(name)
