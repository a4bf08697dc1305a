"""Finds the inputs of `prepare`: files, saved datasets and datasets in memory."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metro_fast.data.documents import cut_lines, read_documents
from metro_fast.data.source import Source, file_hash
from metro_fast.errors import MetroFastError

_TEXT = (".jsonl", ".txt", ".jsonl.gz", ".txt.gz", ".jsonl.zst", ".txt.zst")
_SUFFIXES = (*_TEXT, ".parquet")


class TextFile(Source):
    """Lines of text or of JSON. Ranges count bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def record(self) -> list[Any]:
        """Name and hash."""
        return [self._path.name, file_hash(self._path)]

    def cut(self, piece_bytes: int, text_key: str) -> list[tuple[int, int]]:
        """Whole lines."""
        return cut_lines(self._path, piece_bytes)

    def read(self, start: int, stop: int, text_key: str) -> Iterator[str]:
        """The documents in a range of lines."""
        return read_documents(self._path, text_key, start, stop)


def find_sources(inputs: Any) -> list[Source]:
    """The sources of inputs in their order; the files of a folder are sorted by name.

    Args:
        inputs: Paths and datasets, one or a sequence of them. A folder was written by
            `save_to_disk`, or holds files and such folders.

    Raises:
        FileNotFoundError: If a file or folder does not exist.
        MetroFastError: If there is no input, or one has another file type.
        TypeError: If an input is neither a path nor a dataset.
    """
    found: list[Source] = []
    single = isinstance(inputs, str | Path) or _is_dataset(inputs)
    for one in [inputs] if single else _listed(inputs):
        if _is_dataset(one):
            found.append(_of_dataset(one))
        elif not isinstance(one, str | Path):
            raise TypeError(
                f"an input is a {type(one).__name__}, expected a path, or a Dataset or "
                "IterableDataset of Hugging Face datasets"
            )
        elif Path(one).is_dir() and not _is_saved(Path(one)):
            found += _of_folder(Path(one))
        else:
            found.append(_of_path(Path(one)))
    if not found:
        raise MetroFastError("inputs names no file, expected at least one")
    return found


def read_texts(inputs: Any, text_key: str = "text") -> Iterator[str]:
    r"""Every document of the inputs, in order; for instance, to train a tokenizer.

    Args:
        inputs: As for `prepare`.
        text_key: Key or column of the text.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged.
        MetroFastError: If an input is of another type, or has no such column.

    Example:
        >>> _ = Path("two.txt").write_text("one\ntwo\n")
        >>> list(read_texts("two.txt"))
        ['one', 'two']
    """
    for source in find_sources(inputs):
        for start, stop in source.cut(sys.maxsize, text_key):
            yield from source.read(start, stop, text_key)


def _listed(inputs: Any) -> Sequence[Any]:
    if not isinstance(inputs, Sequence):
        raise TypeError(
            f"inputs is a {type(inputs).__name__}, expected paths and datasets, or a list of them"
        )
    return inputs


def _of_folder(folder: Path) -> list[Source]:
    entries = sorted(e for e in folder.iterdir() if e.name.endswith(_SUFFIXES) or _is_saved(e))
    if not entries:
        raise MetroFastError(
            f"{folder} holds no file that ends in {', '.join(_SUFFIXES)}, and no saved dataset"
        )
    return [_of_path(entry) for entry in entries]


def _of_path(path: Path) -> Source:
    if _is_saved(path):
        from metro_fast.data.dataset_sources import SavedDataset

        return SavedDataset(path)
    if not path.name.endswith(_SUFFIXES):
        raise MetroFastError(f"{path} does not end in one of {', '.join(_SUFFIXES)}")
    path.stat()
    if path.name.endswith(".parquet"):
        from metro_fast.data.parquet_source import ParquetFile

        return ParquetFile(path)
    return TextFile(path)


def _is_saved(path: Path) -> bool:
    """Whether `save_to_disk` of Hugging Face datasets wrote this folder.

    Raises:
        MetroFastError: If the folder holds several splits, from which the caller has to choose.
    """
    if (path / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise MetroFastError(
            f"{path} is a saved DatasetDict of {', '.join(splits)}: name the folders of the splits"
        )
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def _is_dataset(value: Any) -> bool:
    """Whether it is a dataset of Hugging Face. If the package is not loaded, it cannot be one."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, datasets.Dataset | datasets.IterableDataset)


def _of_dataset(dataset: Any) -> Source:
    from metro_fast.data.dataset_sources import GivenDataset, Stream

    return GivenDataset(dataset) if hasattr(dataset, "_fingerprint") else Stream(dataset)
