"""The plan of a `prepare`: its inputs, pieces and tokenizer, and their record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._pretrained import explained, load_tokenizer
from metro_fast.data.pieces import Piece, cut
from metro_fast.data.source import Source
from metro_fast.data.sources import find_sources
from metro_fast.data.tokenizer_identity import plain_backend, tokenizer_sha256
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

PIECE_BYTES = 64 << 20
_BACKEND = "backend.json"


@dataclass(frozen=True)
class Plan:
    """Everything that determines the bytes of a corpus.

    Attributes:
        sources: The inputs.
        pieces: The ranges into which they are cut.
        tokenizer: The fast tokenizer.
        backend: Its Rust tokenizer, which neither truncates nor pads.
        record: The values that are compared with those of another call, as plain JSON.
    """

    sources: list[Source]
    pieces: list[Piece]
    tokenizer: Any
    backend: Any
    record: dict[str, Any]

    def save_tokenizer(self, work: Path) -> None:
        """Write the tokenizer, for the user and for the steps."""
        self.tokenizer.save_pretrained(work / "tokenizer")
        self.backend.save(str(work / _BACKEND))

    def steps(self, work: Path) -> list[Any]:
        """The datatrove steps, which may be sent to other processes and machines.

        Raises:
            MissingExtraError: If datatrove is not installed.
        """
        require("datatrove", "train")
        from metro_fast.data.datatrove_steps import ReadPieces, WritePieces

        return [
            ReadPieces(self.sources, self.pieces, work, self.record["text_key"]),
            WritePieces(
                len(self.pieces),
                work,
                tokenizer_file=work / _BACKEND,
                tokenizer_name=f"tokenizer sha256:{self.record['tokenizer_sha256']}",
                eos_token=self.record["eos_token"],
                shuffle_documents=self.record["shuffle_documents"],
                seed=self.record["seed"] or 0,
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
    sources = find_sources(inputs)
    fast = _load(tokenizer)
    eos_token = eos_token if eos_token is not None else fast.eos_token
    if eos_token is None or eos_token not in fast.get_vocab():
        raise MetroFastError(f"eos_token is {eos_token!r}, expected a token of the tokenizer")
    backend = plain_backend(fast)
    pieces = cut(sources, piece_bytes, text_key)
    record = {
        "format": "metro_fast prepare 2",
        "inputs": [source.record() for source in sources],
        "tokenizer_sha256": tokenizer_sha256(fast),
        "text_key": text_key,
        "eos_token": eos_token,
        "shuffle_documents": shuffle_documents,
        "seed": seed if shuffle_documents else None,
        "piece_bytes": piece_bytes,
        "pieces": len(pieces),
    }
    return Plan(sources, pieces, fast, backend, record)


def _load(tokenizer: Any) -> Any:
    """The fast tokenizer that the caller gave or named."""
    transformers = require("transformers", "train")
    if isinstance(tokenizer, str | Path):
        path = Path(tokenizer)
        if path.is_file():
            with explained(f"the tokenizer {path}"):
                return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        return load_tokenizer(path)
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}, expected a fast tokenizer of "
            "transformers, or the path of one"
        )
    return tokenizer
