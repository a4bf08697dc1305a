"""The plan of a `prepare`: its inputs, pieces and tokenizer, and their record."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast._file_errors import os_errors
from metro_fast._pretrained import load_tokenizer
from metro_fast._tokenizer_files import check_unknown, read_tokenizer_file, unknown_id
from metro_fast.data.pieces import Piece, cut
from metro_fast.data.plain_text import SlowText, slow_backend, text_backend
from metro_fast.data.prepare_counts import SKIPPED
from metro_fast.data.prepare_folder import BACKEND, FORMAT, RECORD
from metro_fast.data.reading import Reading
from metro_fast.data.source import Source
from metro_fast.data.sources import find_sources
from metro_fast.data.tokenizer_identity import tokenizer_sha256
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

_logger = logging.getLogger(__name__)

PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Plan:
    """Everything that determines the bytes of a corpus.

    Attributes:
        sources: The inputs.
        pieces: The ranges into which they are cut.
        tokenizer: The tokenizer.
        backend: Its Rust tokenizer, which neither truncates nor pads, and for which texts are only
            texts; or what takes its place for a slow tokenizer.
        record: The values that are compared with those of another call, as plain JSON.
        found: Numbers of inputs, and of the entries of folders that are left out.
        unknown: The id of unknown tokens, which is not one of those around a document; or None.
    """

    sources: list[Source]
    pieces: list[Piece]
    tokenizer: Any
    backend: Any
    record: dict[str, Any]
    found: dict[str, int]
    unknown: int | None

    def save_tokenizer(self, work: Path) -> None:
        """Write the tokenizer, for the user and for the steps."""
        with os_errors(work):
            self.tokenizer.save_pretrained(work / "tokenizer")
        if not isinstance(self.backend, SlowText):
            write_atomically(work / BACKEND, self.backend.to_str())

    def steps(self, work: Path) -> list[Any]:
        """The datatrove steps, which may be sent to other processes and machines.

        Raises:
            MissingExtraError: If datatrove is not installed.
        """
        require("datatrove", "train")
        from metro_fast.data.datatrove_steps import ReadPieces, WritePieces

        slow = self.backend if isinstance(self.backend, SlowText) else None
        return [
            ReadPieces(self.sources, self.pieces, work, self.record["text_key"]),
            WritePieces(
                len(self.pieces),
                work,
                tokenizer_file=work / (RECORD if slow else BACKEND),
                tokenizer_name=f"tokenizer sha256:{self.record['tokenizer_sha256']}",
                slow=slow,
                shuffle_documents=self.record["shuffle_documents"],
                seed=self.record["seed"] or 0,
                unknown=self.unknown,
            ),
        ]


def make_plan(
    inputs: Any,
    tokenizer: Any,
    *,
    text_key: str,
    eos_token: str | None,
    shuffle_documents: bool,
    seed: int,
    piece_bytes: int,
    document_per: str,
    encoding: str,
    on_bad_text: str,
) -> Plan:
    """Check the arguments of `prepare`, cut the inputs and hash them.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged.
        MetroFastError: If a value is outside its domain.
        TypeError: If an input or the tokenizer is of another type.
    """
    if check_counter("piece_bytes", piece_bytes) == 0:
        raise MetroFastError("piece_bytes is 0, expected 1 or more")
    check_counter("seed", seed)
    reading = Reading(document_per, encoding, on_bad_text)
    skipped: Counter[str] = Counter()
    sources = find_sources(inputs, reading, skipped)
    tokenizer = _load(tokenizer)
    eos_token, eos = _end(tokenizer, eos_token)
    is_fast = getattr(tokenizer, "is_fast", False)
    backend: Any
    backend, template = text_backend(tokenizer, eos) if is_fast else slow_backend(tokenizer, eos)
    if template.front:
        _logger.info("every document begins with %s", _tokens(tokenizer, template.front))
    pieces = cut(sources, piece_bytes, text_key)
    record = {
        "format": FORMAT,
        "inputs": [source.record() for source in sources],
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "text_key": text_key,
        "in_front": _tokens(tokenizer, template.front),
        "eos_token": eos_token,
        "shuffle_documents": shuffle_documents,
        "seed": seed if shuffle_documents else None,
        "piece_bytes": piece_bytes,
        "pieces": len(pieces),
        **asdict(reading),
    }
    unknown = unknown_id(tokenizer)
    if unknown in (*template.front, eos):  # GPT-2 has one token for all of them
        unknown = None
    return Plan(sources, pieces, tokenizer, backend, record, _found(sources, skipped), unknown)


def _end(tokenizer: Any, given: str | None) -> tuple[str, int]:
    """The token that ends documents, and its id."""
    token = given if given is not None else tokenizer.eos_token
    vocabulary = tokenizer.get_vocab()
    if token is None or token not in vocabulary:
        near = [name for name in ("</s>", "[SEP]", "<|endoftext|>") if name in vocabulary]
        hint = f"; it has {', '.join(near)}" if near else ""
        raise MetroFastError(
            f"eos_token is {token!r}, expected a token of the tokenizer{hint}: give eos_token "
            "(--eos-token)"
        )
    return token, vocabulary[token]


def _tokens(tokenizer: Any, ids: list[int]) -> list[str]:
    return [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]


def _found(sources: list[Source], skipped: Counter[str]) -> dict[str, int]:
    files = sum(source.is_file for source in sources)
    found = {"files": files, "datasets": len(sources) - files}
    return found | {f"{SKIPPED}{kind}": count for kind, count in sorted(skipped.items())}


def _load(tokenizer: Any) -> Any:
    """The tokenizer that the caller gave or named."""
    transformers = require("transformers", "train")
    if isinstance(tokenizer, str | Path):
        if Path(tokenizer).is_file():
            found: Any = read_tokenizer_file(Path(tokenizer))
        else:
            found = _load_named(tokenizer)
    elif isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        check_unknown(tokenizer, f"the tokenizer {type(tokenizer).__name__}")
        found = tokenizer
    else:
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}, expected a fast tokenizer of "
            "transformers or a slow one, or the path or name of one"
        )
    return found


def _load_named(name: str | Path) -> Any:
    """A tokenizer in a folder or on the Hub."""
    try:
        return load_tokenizer(name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileNotFoundError(
            f"{name} is not a file or folder here, and the Hub has no such tokenizer, or it cannot "
            f"be reached ({' '.join(str(error).split())[:200]})"
        ) from error
