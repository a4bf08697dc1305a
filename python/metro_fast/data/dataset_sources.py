"""Datasets of Hugging Face: saved, in memory or memory-mapped, and streamed."""

import secrets
from collections import Counter
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast._memory import read_small
from metro_fast._shown import quoted, shown
from metro_fast.data.arrow_text import (
    ROWS_AT_ONCE,
    check_text_type,
    damage_explained,
    read_columns,
)
from metro_fast.data.reading import ADVICE, READING, BadTextError, Reading
from metro_fast.data.source import Source, file_hash
from metro_fast.errors import FormatError, MetroFastError


class GivenDataset(Source):
    """A `datasets.Dataset`. Ranges count rows."""

    def __init__(self, dataset: Any, reading: Reading = READING) -> None:
        self._dataset, self._reading = dataset, reading

    def __repr__(self) -> str:
        return f"Dataset {self._dataset._fingerprint} of {len(self._dataset)} rows"

    def record(self) -> list[Any]:
        """Fingerprint, rows and features.

        The fingerprint is Hugging Face's: a hash of the origin of the rows and of the steps that
        changed them, but not of the rows. It is random after a step that could not be hashed.
        """
        features = str(self._dataset.features)
        return ["datasets.Dataset", self._dataset._fingerprint, len(self._dataset), features]

    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """As many rows as have `piece_bytes` of text, by the mean of the underlying table."""
        dataset = self._texts(text_key)
        if len(dataset) == 0:
            return [(0, 0)]
        table = dataset.data.column(text_key)
        check_text_type(table.type, f"the dataset's column {quoted(text_key)}")
        rows, size = len(dataset), max(1, table.nbytes)
        step = max(1, len(table) * piece_bytes // size)
        return [(start, min(start + step, rows)) for start in range(0, rows, step)]

    def read(
        self, start: int, stop: int, text_key: str, counts: Counter[str] | None = None
    ) -> Iterator[str]:
        """The texts of a range of rows."""
        part = self._texts(text_key).select(range(start, stop)).with_format("arrow")
        slices = part.iter(batch_size=ROWS_AT_ONCE)
        where = f"{self._name()}, rows from {start}"
        columns = (rows.column(text_key) for rows in slices)
        return read_columns(columns, where, self._reading, counts)

    def _texts(self, text_key: str) -> Any:
        dataset = self._open()
        if text_key not in dataset.column_names:
            raise MetroFastError(
                f"{self._name()} has no column {quoted(text_key)}, only "
                f"{dataset.column_names[:8]}: give text_key"
            )
        return dataset.select_columns([text_key])

    def _open(self) -> Any:
        return self._dataset

    def _name(self) -> str:
        return "the dataset"


class SavedDataset(GivenDataset):
    """A folder that `Dataset.save_to_disk` wrote; each process opens it separately."""

    def __init__(self, path: Path, reading: Reading = READING) -> None:
        self._path, self._reading = path.absolute(), reading

    def __repr__(self) -> str:
        return f"dataset {self._path}"

    def record(self) -> list[Any]:
        """Name, and the hash of each file that holds rows."""
        try:
            state = parse_json(read_small(self._path / "state.json"), self._path / "state.json")
            names = [entry["filename"] for entry in state["_data_files"]]
        except (KeyError, TypeError) as error:
            raise FormatError(
                f"{self._path / 'state.json'} is damaged: {shown(repr(error))}"
            ) from error
        return [self._path.name, *([name, file_hash(self._path / name)] for name in names)]

    def _open(self) -> Any:
        datasets = require("datasets", "data")
        try:
            with damage_explained(self._path):
                return datasets.load_from_disk(str(self._path))
        except (KeyError, TypeError, JSONDecodeError) as error:  # from its two JSON files
            raise FormatError(f"{self._path} is damaged: {quoted(error)}") from error

    def _name(self) -> str:
        return str(self._path)


class Stream(Source):
    """A `datasets.IterableDataset`. A range is one of its shards.

    A stream has no identity that a later call could compare. The work of an interrupted call is
    therefore repeated, and a finished output is refused without a comparison.
    """

    def __init__(self, dataset: Any, reading: Reading = READING) -> None:
        self._dataset, self._reading = dataset, reading

    def __repr__(self) -> str:
        return f"IterableDataset of {self._dataset.num_shards} shards"

    def record(self) -> list[Any]:
        """A random number, different in every call."""
        return ["datasets.IterableDataset", secrets.token_hex(16)]

    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """The shards, whatever their size."""
        columns = self._dataset.column_names
        if columns is not None and text_key not in columns:
            raise MetroFastError(
                f"the stream has no column {quoted(text_key)}, only {columns[:8]}: give text_key"
            )
        return [(shard, shard + 1) for shard in range(self._dataset.num_shards)]

    def read(
        self, start: int, stop: int, text_key: str, counts: Counter[str] | None = None
    ) -> Iterator[str]:
        """The texts of a range of shards."""
        counts = Counter() if counts is None else counts
        for shard in range(start, stop):
            part = self._dataset.shard(num_shards=self._dataset.num_shards, index=shard)
            part = _undecoded(part, text_key)
            for row, values in enumerate(_rows(part, f"the stream's shard {shard}")):
                text, where = values.get(text_key), f"the stream's shard {shard}, row {row}"
                if isinstance(text, bytes):
                    text = _decoded(text, self._reading, f"{where}: {quoted(text_key)}")
                if not isinstance(text, str):
                    raise FormatError(
                        f"{where}: {quoted(text_key)} is of type {type(text).__name__}, expected a "
                        "string"
                    )
                try:
                    accepted = self._reading.accept(text, counts)
                except BadTextError as error:
                    raise FormatError(f"{where}: {quoted(text_key)} {error}") from error
                if accepted is not None:
                    yield accepted


def _undecoded(part: Any, text_key: str) -> Any:
    """The stream with its texts as bytes, where datasets has not decoded them yet.

    It otherwise decodes whole batches, of which no row is left if one is not UTF-8.
    """
    datasets = require("datasets", "data")
    feature = (part.features or {}).get(text_key)
    raw = {"string": "binary", "large_string": "large_binary"}
    if not isinstance(feature, datasets.Value) or feature.dtype not in raw:
        return part
    return part.cast_column(text_key, datasets.Value(raw[feature.dtype]))


def _decoded(text: bytes, reading: Reading, where: str) -> str:
    try:
        return text.decode("utf-8", reading.errors)
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8 ({error}): {ADVICE}") from error


def _rows(part: Any, where: str) -> Iterator[Any]:
    """The rows of a stream, which ends at the first text that is not UTF-8."""
    try:
        yield from part
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{where} holds a text that is not UTF-8 ({error}), behind which a stream cannot be "
            "read: give its files, for which on_bad_text may be 'skip' or 'replace'"
        ) from error
