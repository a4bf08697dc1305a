"""Reads a tokenizer from a folder or the Hub, and notices what its class got wrong."""

import importlib.util
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast._memory import check_file
from metro_fast._sentencepiece import (
    PROBES,
    SUFFIXES,
    algorithm_of,
    load_sentencepiece,
    require_sentencepiece,
)
from metro_fast.errors import FormatError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LoadErrors", "check_unknown", "has_tokenizer", "read_tokenizer", "read_tokenizer_file"]

_logger = logging.getLogger(__name__)

_CONFIG, _FAST = "tokenizer_config.json", "tokenizer.json"
_FILES = (_FAST, _CONFIG)
_MOST_BYTES = 512 << 20  # of tokenizer.json: the largest that are published have 35 MB
# Classes that say nothing about the layout of a vocabulary.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_TOKENS = ("special_tokens_map.json", "added_tokens.json", _CONFIG)
_WAY_OUT = f"give the file itself, or set tokenizer_class to PreTrainedTokenizerFast in {_CONFIG}"
# Letters of no vocabulary: private use, and scripts that went out of use.
_UNKNOWN = ("\U000f1234", "\ue123", "\U00012345", "\U00010632")


class LoadErrors(AbstractContextManager[None]):
    """Turns the errors of tokenizers that do not fit their files into ours.

    Those of Rust have no class of their own, and transformers passes None for a token that the
    vocabulary lacks, which is a TypeError.

    Args:
        subject: The thing that is being read, for the message.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind in (Exception, TypeError):
            raise FormatError(
                f"{self._subject} is damaged, or not of its declared class: {error}"
            ) from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    return any((folder / file).is_file() for file in _FILES) or bool(_models(folder))


def read_tokenizer(name: str | Path, folder: Path | None) -> "PreTrainedTokenizerBase":
    """The tokenizer in a folder or on the Hub.

    A SentencePiece model whose class is not declared keeps its own layout.

    Args:
        name: Folder, or name on the Hub.
        folder: The folder, or None for a name on the Hub.

    Raises:
        FormatError: If a file is damaged, or the layout of the vocabulary is not the one that the
            declared class expects.
        MissingExtraError: If it needs sentencepiece, and that is not installed.
        OSError: If a file cannot be read.
    """
    subject = f"the tokenizer at {name}"
    if folder is not None and not (folder / _FAST).is_file() and (models := _models(folder)):
        if _is_sentencepiece(models[0]):
            require_sentencepiece()
        if not _declares_class(folder):
            return _load_bare(folder, models)
    with LoadErrors(subject), _missing_extra_named(subject):
        found: PreTrainedTokenizerBase
        found = require("transformers", "train").AutoTokenizer.from_pretrained(name)
    model = Path(getattr(found, "vocab_file", None) or "")
    if type(found).__name__ in _GENERIC and _is_converted(model):
        return _with_special_tokens(load_sentencepiece(model), found, subject)
    check_unknown(found, subject)
    if getattr(found, "is_fast", False) and _is_converted(model) and _is_sentencepiece(model):
        _compare_with_peer(found, model)
    if folder is not None and (folder / _FAST).is_file() and type(found).__name__ not in _GENERIC:
        _compare(found, folder / _FAST)
    return found


def read_tokenizer_file(path: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a `tokenizer.json`, or in a SentencePiece model.

    Raises:
        FormatError: If it is damaged or of another kind.
        MissingExtraError: If sentencepiece is needed and is not installed.
        OSError: If it cannot be read.
    """
    if path.name.endswith(SUFFIXES):
        return load_sentencepiece(path)
    if path.suffix != ".json":
        raise FormatError(
            f"{path} does not end in .json or {', '.join(SUFFIXES)}: give a tokenizer.json, a "
            "SentencePiece model, or the folder of a tokenizer"
        )
    check_file(path, _MOST_BYTES)
    values = parse_json(path.read_bytes(), path)
    if not isinstance(values, dict) or "model" not in values:
        raise FormatError(f"{path} is not a tokenizer.json: it has no model")
    with LoadErrors(f"the tokenizer {path}"):
        found: PreTrainedTokenizerBase = require("transformers", "train").PreTrainedTokenizerFast(
            tokenizer_file=str(path)
        )
    return found


def unknown_id(tokenizer: Any) -> int | None:
    """The id that letters outside the vocabulary become, declared or not; None without such an id.

    Args:
        tokenizer: The tokenizer, fast or slow.
    """
    if not getattr(tokenizer, "is_fast", False):
        declared: int | None = tokenizer.unk_token_id
        return declared
    backend = tokenizer.backend_tokenizer
    model = json.loads(backend.to_str())["model"]
    index: int | None = model.get("unk_id")
    if index is None and model.get("unk_token") is not None:
        index = backend.token_to_id(model["unk_token"])
    return index


def check_unknown(tokenizer: Any, subject: str) -> None:
    """Refuse a tokenizer whose unknown letters become another token than the unknown one.

    A class that expects another layout of the vocabulary than it has takes the token in the place
    of its unknown one: in a model that SentencePiece trains by default, T5's is `</s>`, so that
    unknown letters ended documents.

    Args:
        tokenizer: The tokenizer; a slow one is not checked.
        subject: The tokenizer, for the message.

    Raises:
        FormatError: If it is such a tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        return
    expected, index = tokenizer.unk_token_id, unknown_id(tokenizer)
    backend = tokenizer.backend_tokenizer
    if index is None or index == expected:
        return
    if expected is None and index not in tokenizer.all_special_ids:
        return  # an unknown token that is not declared
    if any(index in backend.encode(text, add_special_tokens=False).ids for text in _UNKNOWN):
        raise FormatError(
            f"{subject}: unknown letters become {backend.id_to_token(index)!r} (id {index}), while "
            f"its unknown token is {tokenizer.unk_token!r} (id {expected}): the vocabulary does "
            f"not have the layout of {type(tokenizer).__name__}; give its SentencePiece model or "
            f"its {_FAST} itself, or set tokenizer_class to PreTrainedTokenizerFast in {_CONFIG}"
        )


def _load_bare(folder: Path, models: list[Path]) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder that holds a SentencePiece model, and says nothing about it."""
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise FormatError(f"{folder} holds several models ({names}): name one of them")
    named = [name for name in _TOKENS if (folder / name).is_file()]
    if named:
        raise FormatError(
            f"{folder} has tokens in {', '.join(named)}, but does not say of which class: set "
            f"tokenizer_class in {_CONFIG}, or give {models[0]} for the model alone"
        )
    return load_sentencepiece(models[0])


def _compare(tokenizer: Any, file: Path) -> None:
    """Refuse a class that gives a token of its file another id, and warn if it cuts otherwise.

    Many classes take the vocabulary from the file, and nothing else.
    """
    if not getattr(tokenizer, "is_fast", False):
        return
    with LoadErrors(str(file)):
        own = require("tokenizers", "train").Tokenizer.from_file(str(file))
    found = tokenizer.get_vocab()
    for token, index in own.get_vocab().items():
        if found.get(token) != index:
            raise FormatError(
                f"{file} gives {token!r} the id {index}, and {type(tokenizer).__name__}, the class "
                f"that {_CONFIG} declares, {found.get(token)}: {_WAY_OUT}"
            )
    own.no_truncation()
    own.no_padding()
    cuts = (
        (text, [own.id_to_token(i) for i in own.encode(text, add_special_tokens=False).ids])
        for text in PROBES
    )
    _compare_cuts(tokenizer, file, cuts, json.loads(own.to_str())["model"]["type"])


def _compare_with_peer(tokenizer: Any, model: Path) -> None:
    """The same, for a class that took its vocabulary from a SentencePiece model."""
    peer = require_sentencepiece().SentencePieceProcessor(model_file=str(model))
    cuts = ((text, [peer.IdToPiece(i) for i in peer.EncodeAsIds(text)]) for text in PROBES)
    _compare_cuts(tokenizer, model, cuts, algorithm_of(model))


def _compare_cuts(
    tokenizer: Any, file: Path, cuts: Iterable[tuple[str, list[str]]], algorithm: str
) -> None:
    """Warn of the first text that is cut otherwise; refuse it if the algorithms are different."""
    own = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    for text, there in cuts:
        here = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)
        if here == there:
            continue
        name = type(tokenizer).__name__
        if own != algorithm:
            raise FormatError(
                f"{file} is of type {algorithm}, and {name}, the class that {_CONFIG} declares, of "
                f"type {own}: {text!r} becomes {here[:8]} instead of {there[:8]}; {_WAY_OUT}"
            )
        _logger.warning(
            "%s cuts %r into %s, and its declared class %s into %s, which is used: %s if that is "
            "not meant", file, text, there[:8], name, here[:8], _WAY_OUT,
        )  # fmt: skip
        return


def _models(folder: Path) -> list[Path]:
    return sorted(path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}"))


def _is_sentencepiece(model: Path) -> bool:
    """Whether it is not one of tiktoken's, which is a text: the first byte is a field's tag."""
    with model.open("rb") as file:
        return file.read(1) == b"\n"


def _is_converted(model: Path) -> bool:
    """Whether transformers had nothing but a SentencePiece model to make a tokenizer from."""
    return model.name.endswith(SUFFIXES) and model.is_file() and not (model.parent / _FAST).exists()


def _declares_class(folder: Path) -> bool:
    for name, keys in ((_CONFIG, {"tokenizer_class"}), ("config.json", {"model_type"})):
        if (folder / name).is_file():
            check_file(folder / name)
            values = parse_json((folder / name).read_bytes(), folder / name)
            if isinstance(values, dict) and keys & set(values):
                return True
    return False


def _with_special_tokens(tokenizer: Any, declared: Any, subject: str) -> Any:
    """A tokenizer with the special tokens that `tokenizer_config.json` declares for it."""
    tokenizer.add_special_tokens(declared.special_tokens_map)
    if tokenizer.get_vocab() != declared.get_vocab():
        raise FormatError(
            f"{subject}: {_CONFIG} adds tokens that its SentencePiece model does not have: give "
            f"the folder to which save_pretrained writes it with a {_FAST}"
        )
    return tokenizer


@contextmanager
def _missing_extra_named(subject: str) -> Iterator[None]:
    """Name the package without which transformers cannot read a SentencePiece model."""
    try:
        yield
    except (ValueError, ImportError) as error:
        if importlib.util.find_spec("sentencepiece") or not any(
            word in str(error) for word in ("sentencepiece", "SentencePiece", "tiktoken")
        ):
            raise
        raise MissingExtraError(
            f"{subject} is a SentencePiece model, and sentencepiece is not installed. Install it "
            "with: pip install 'metro_fast[sentencepiece]'"
        ) from error
