"""Finds the inputs below a folder, and counts what it leaves out."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from metro_fast.errors import MetroFastError

TEXT = (".jsonl", ".txt", ".jsonl.gz", ".txt.gz", ".jsonl.zst", ".txt.zst")
SUFFIXES = (*TEXT, ".parquet")
# Text files that tokenizers consist of, in a folder that holds one.
_OF_TOKENIZERS = ("merges.txt", "vocab.txt")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
CORPUS = "prepare.json"


def is_saved(path: Path) -> bool:
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


def find_inputs(folder: Path, skipped: Counter[str]) -> list[Path]:
    """The files and saved datasets below a folder, sorted by the parts of their paths.

    Args:
        folder: The folder.
        skipped: Where to count the entries that are left out, by their kind: files of other types
            by suffix, hidden files and folders, corpora, and links to a folder around them.

    Raises:
        MetroFastError: If it holds no input, or a saved DatasetDict is among them.
        OSError: If a folder cannot be read.
    """
    here: Counter[str] = Counter()
    found = list(_walk(folder, here, (folder.resolve(),)))
    if not found:
        there = f" (it holds {describe(here)})" if here else ""
        raise MetroFastError(
            f"{folder} holds no file that ends in {', '.join(SUFFIXES)}, and no saved dataset"
            f"{there}"
        )
    skipped.update(here)
    return found


def _walk(folder: Path, skipped: Counter[str], around: tuple[Path, ...]) -> Iterator[Path]:
    has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER)
    for entry in sorted(folder.iterdir()):
        if is_saved(entry):
            yield entry
        elif entry.is_dir():
            inside = entry.resolve()
            if entry.name.startswith("."):
                skipped["hidden folder"] += 1
            elif (entry / CORPUS).is_file():
                skipped["corpus"] += 1
            elif inside in around:
                skipped["link to a folder around it"] += 1
            else:
                yield from _walk(entry, skipped, (*around, inside))
        elif has_tokenizer and entry.name in _OF_TOKENIZERS:
            skipped["file of a tokenizer"] += 1
        elif entry.name.startswith("."):  # such as ._a.txt, which macOS writes beside a.txt
            skipped["hidden file"] += 1
        elif entry.name.endswith(SUFFIXES):
            yield entry
        else:
            skipped[f"{entry.suffix} file" if entry.suffix else "file without a suffix"] += 1


def describe(skipped: Counter[str]) -> str:
    """Counts of entries in words."""
    plurals = {"corpus": "corpora", "file of a tokenizer": "files of a tokenizer"}
    plurals |= {"file without a suffix": "files without a suffix"}
    plurals |= {"link to a folder around it": "links to a folder around them"}
    return ", ".join(
        f"{count} {kind if count == 1 else plurals.get(kind, f'{kind}s')}"
        for kind, count in sorted(skipped.items())
    )
