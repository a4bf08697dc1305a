"""Models and tokenizers from a folder or the Hub, and one clear error for what does not load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError

__all__ = ["explained", "has_tokenizer", "load_seq2seq", "load_tokenizer"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "tokenizer.model")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what libraries raise over damaged or unfit files into one `FormatError`.

    Args:
        what: What is being loaded, for the message.

    Raises:
        FormatError: In place of the errors of values, keys, shapes, JSON and safetensors.

    Example:
        >>> with explained("the answer"):
        ...     {}["question"]
        Traceback (most recent call last):
        ...
        metro_fast._core.FormatError: the answer cannot be loaded (KeyError: 'question')
    """
    damaged = require("safetensors", "train").SafetensorError
    try:
        yield
    except MetroFastError:
        raise
    except (ValueError, KeyError, RuntimeError, AttributeError, EOFError, damaged) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = " ".join(lines[:2])[:300]
        raise FormatError(f"{what} cannot be loaded ({type(error).__name__}: {told})") from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    return any((folder / file).is_file() for file in _TOKENIZER_FILES)


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a model.

    A folder without tokenizer files is refused: transformers makes a blank tokenizer of the model's
    class for it, to which every text is unknown tokens.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no tokenizer.
        FormatError: If a file of it is damaged.
        OSError: If the Hub does not have it, or cannot be reached.
    """
    folder = _folder(name)
    if folder is not None and not has_tokenizer(folder):
        raise FileNotFoundError(
            f"{folder} holds no tokenizer (none of {', '.join(_TOKENIZER_FILES)}): name the folder "
            "that a model was saved to with its tokenizer"
        )
    with explained(f"the tokenizer at {name}"):
        return require("transformers", "train").AutoTokenizer.from_pretrained(name)


def load_seq2seq(name: str | Path) -> Any:
    """An encoder-decoder model.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        FormatError: If a file of it is damaged, or it is another kind of model.
        OSError: If the Hub does not have it, or cannot be reached.
    """
    folder = _folder(name)
    if folder is not None:
        _check_config(folder)
    with explained(f"the model at {name}"):
        return require("transformers", "train").AutoModelForSeq2SeqLM.from_pretrained(name)


def _folder(name: str | Path) -> Path | None:
    """The folder that a name means, or None for a name on the Hub."""
    text, folder = str(name), Path(name)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{folder} is a file, expected the folder of a model")
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise FileNotFoundError(f"{folder} does not exist")
    return None


def _check_config(folder: Path) -> None:
    """Say what a folder is, if it is not that of an encoder-decoder model."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give the folder of a model")
    config = parse_json(path.read_bytes(), path)
    if isinstance(config, dict) and config.get("model_type") == "metro":
        raise FormatError(f"{folder} holds a METRO model: its plain T5 is {folder / 'main'}")
