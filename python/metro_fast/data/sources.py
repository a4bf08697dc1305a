"""Finds the inputs of `prepare`: files, saved datasets and datasets in memory."""

import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metro_fast._shown import quoted
from metro_fast.data.documents import PACKED, cut_lines, cut_paragraphs, is_json, read_documents
from metro_fast.data.folders import SUFFIXES, find_inputs, is_saved
from metro_fast.data.reading import READING, Reading
from metro_fast.data.source import Source, file_hash
from metro_fast.errors import MetroFastError


class TextFile(Source):
    """A text or lines of JSON. Ranges count bytes."""

    is_file = True

    def __init__(self, path: Path, reading: Reading = READING) -> None:
        self._path, self._reading = path.absolute(), reading

    @property
    def is_json(self) -> bool:
        """Whether its lines are JSON."""
        return is_json(self._path)

    def record(self) -> list[Any]:
        """Name and hash."""
        return [self._path.name, file_hash(self._path)]

    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """Whole documents; the whole file, if an end of a line may be the half of a character."""
        per = "line" if self.is_json else self._reading.document_per
        if per == "file" or not self._reading.has_byte_lines:
            return [(0, self._path.stat().st_size)]
        if per == "blank-line" and not self._path.name.endswith(PACKED):
            return cut_paragraphs(self._path, piece_bytes)
        return cut_lines(self._path, piece_bytes)

    def read(
        self, start: int, stop: int, text_key: str, counts: Counter[str] | None = None
    ) -> Iterator[str]:
        """The documents in a range."""
        return read_documents(self._path, text_key, start, stop, self._reading, counts)


def find_sources(
    inputs: Any, reading: Reading = READING, skipped: Counter[str] | None = None
) -> list[Source]:
    """The sources of inputs in their order; the files below a folder are sorted by their paths.

    Args:
        inputs: Paths and datasets, one or a sequence of them. A folder was written by
            `save_to_disk`, or holds files and such folders, at any depth.
        reading: How they are read.
        skipped: Where to count the entries of folders that are left out.

    Raises:
        FileNotFoundError: If a file or folder does not exist.
        MetroFastError: If there is no input, or one has another file type.
        TypeError: If an input is neither a path nor a dataset.
    """
    found: list[Source] = []
    skipped = Counter() if skipped is None else skipped
    single = isinstance(inputs, str | Path) or _is_dataset(inputs)
    for one in [inputs] if single else _listed(inputs):
        if _is_dataset(one):
            found.append(_of_dataset(one, reading))
        elif not isinstance(one, str | Path):
            raise TypeError(
                f"an input is a {type(one).__name__}, expected a path, or a Dataset or "
                "IterableDataset of Hugging Face datasets"
            )
        elif not str(one):
            raise MetroFastError("an input is empty, expected a path, such as . for this folder")
        elif Path(one).is_dir() and not is_saved(Path(one)):
            found += [_of_path(path, reading) for path in find_inputs(Path(one), skipped)]
        else:
            found.append(_of_path(Path(one), reading))
    if not found:
        raise MetroFastError("inputs names no file, expected at least one")
    _check_use(reading, found)
    return found


def read_texts(
    inputs: Any,
    text_key: str = "text",
    *,
    document_per: str = "line",
    encoding: str = "utf-8",
    on_bad_text: str = "error",
) -> Iterator[str]:
    r"""Every document of the inputs, in order; for instance, to train a tokenizer.

    Args:
        inputs: As for `prepare`.
        text_key: Key or column of the text.
        document_per: As for `prepare`.
        encoding: As for `prepare`.
        on_bad_text: As for `prepare`.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged.
        MetroFastError: If an input is of another type, or has no such column.

    Example:
        >>> _ = Path("two.txt").write_text("one\ntwo\n")
        >>> list(read_texts("two.txt"))
        ['one', 'two']
        >>> list(read_texts("two.txt", document_per="file"))
        ['one\ntwo']
    """
    reading = Reading(document_per, encoding, on_bad_text)
    for source in find_sources(inputs, reading):
        for start, stop in source.cut(sys.maxsize, text_key):
            yield from source.read(start, stop, text_key)


def _listed(inputs: Any) -> Sequence[Any]:
    if not isinstance(inputs, Sequence):
        raise TypeError(
            f"inputs is a {type(inputs).__name__}, expected paths and datasets, or a list of them"
        )
    return inputs


def _check_use(reading: Reading, sources: list[Source]) -> None:
    """Refuse options that change nothing, as their user expects that they do."""
    texts = [source for source in sources if isinstance(source, TextFile)]
    if reading.document_per != READING.document_per and all(text.is_json for text in texts):
        raise MetroFastError(
            f"document_per is {quoted(reading.document_per)}, but no input is a .txt: a line of "
            "JSON and a row of a table always are a document"
        )
    if reading.encoding != READING.encoding and not texts:
        raise MetroFastError(
            f"encoding is {quoted(reading.encoding)}, but no input is a .txt or .jsonl: tables are "
            "UTF-8"
        )


def _of_path(path: Path, reading: Reading) -> Source:
    if is_saved(path):
        from metro_fast.data.dataset_sources import SavedDataset

        return SavedDataset(path, reading)
    if not path.suffix:
        path.stat()  # a folder that does not exist, rather than a file of another type
    if not path.name.endswith(SUFFIXES):
        raise MetroFastError(f"{path} does not end in one of {', '.join(SUFFIXES)}")
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
        raise MetroFastError(
            f"{path} is not a regular file, expected one that can be read more than once: write "
            "the texts to a file first, or give an IterableDataset"
        )
    if path.name.endswith(".parquet"):
        from metro_fast.data.parquet_source import ParquetFile

        return ParquetFile(path, reading)
    return TextFile(path, reading)


def _is_dataset(value: Any) -> bool:
    """Whether it is a dataset of Hugging Face. If the package is not loaded, it cannot be one."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, datasets.Dataset | datasets.IterableDataset)


def _of_dataset(dataset: Any, reading: Reading) -> Source:
    from metro_fast.data.dataset_sources import GivenDataset, Stream

    kind = GivenDataset if hasattr(dataset, "_fingerprint") else Stream
    return kind(dataset, reading)
