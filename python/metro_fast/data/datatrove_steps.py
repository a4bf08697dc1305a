"""The two steps of `prepare` as steps of datatrove: read pieces, write token files."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.tokens import DocumentTokenizer
from numpy import iinfo, uint16
from numpy.random import default_rng

from metro_fast._file_errors import os_errors
from metro_fast.data.pieces import UNFINISHED, Piece, is_done, mark_done, write_counts
from metro_fast.data.plain_text import SlowText
from metro_fast.data.source import Source
from metro_fast.errors import MetroFastError

# Number of documents that are tokenized together; as fast as datatrove's own 10,000.
DOCUMENTS_AT_ONCE = 1000
_PIECE = "piece"


class ReadPieces(PipelineStep):  # type: ignore[misc]  # datatrove is untyped
    """First step of a task: the documents of those of its pieces that are not done.

    Task t of T has the pieces t, t + T, t + 2T, ... datatrove's own readers skip damaged lines with
    a warning; this one refuses them.

    Args:
        sources: The inputs.
        pieces: The ranges into which they are cut.
        work: Folder of the marks.
        text_key: Key or column of the text.

    What is left out of a piece or changed in it is counted in a file in `work`.
    """

    name, type = "metro_fast pieces", "READER"

    def __init__(
        self, sources: list[Source], pieces: list[Piece], work: Path, text_key: str
    ) -> None:
        super().__init__()
        self._sources, self._pieces = sources, pieces
        self._work, self._text_key = work, text_key

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of a task, each with the number of its piece."""
        for number in range(rank, len(self._pieces), world_size):
            if is_done(self._work, number):
                continue
            piece = self._pieces[number]
            counts: Counter[str] = Counter()
            source = self._sources[piece.source]
            texts = source.read(piece.start, piece.stop, self._text_key, counts)
            for row, text in enumerate(texts):
                yield Document(text=text, id=f"{number}/{row}", metadata={_PIECE: number})
            # The next step marks a piece as done when it sees that its documents have ended.
            write_counts(self._work, number, counts)


class WritePieces(PipelineStep):  # type: ignore[misc]
    """Last step of a task: each of its pieces becomes a token file, even if it is empty.

    A piece is written to a separate folder and moved when it is complete. A task that runs twice at
    the same time (clusters restart tasks that they believe lost) does no harm, because both write
    the same bytes.

    Args:
        pieces: Number of pieces in all.
        work: Folder in which the files appear.
        tokenizer_file: The tokenizer, a `tokenizer.json` whose template ends each document.
        tokenizer_name: Name of the tokenizer in the metadata.
        slow: What tokenizes instead of that file; None for a fast tokenizer.
        shuffle_documents: Whether to shuffle the documents of a piece.
        seed: Seed of the shuffle, which is keyed by (seed, number of the piece).
        unknown: Id of unknown tokens, which are counted; None for a tokenizer without them.
    """

    name, type = "metro_fast token files", "WRITER"

    def __init__(
        self,
        pieces: int,
        work: Path,
        *,
        tokenizer_file: Path,
        tokenizer_name: str,
        slow: SlowText | None,
        shuffle_documents: bool,
        seed: int,
        unknown: int | None,
    ) -> None:
        super().__init__()
        self._unknown = unknown
        self._count, self._work = pieces, work
        self._tokenizer_file, self._tokenizer_name = tokenizer_file, tokenizer_name
        self._slow = slow
        self._shuffle_documents, self._seed = shuffle_documents, seed

    def run(self, data: Iterable[Document] = (), rank: int = 0, world_size: int = 1) -> None:
        """Write those pieces of a task that are not done.

        Raises:
            MetroFastError: If the work folder is missing, or documents have lost their piece or
                come in another order.
            OSError: If a file cannot be written.
        """
        if not self._tokenizer_file.is_file():
            raise MetroFastError(
                f"{self._tokenizer_file} is missing: the output is finished or was removed, or "
                "this machine does not share its file system; make a new pipeline"
            )
        tokenizer = PlainTokenizer(
            output_folder=str(self._work),
            tokenizer_name_or_path=str(self._tokenizer_file),
            shuffle_documents=self._shuffle_documents,
            seed=self._seed,
            batch_size=DOCUMENTS_AT_ONCE,
        )
        if self._slow is not None:
            tokenizer.tokenizer = self._slow
        numbers = range(rank, self._count, world_size)
        left = iter([number for number in numbers if not is_done(self._work, number)])
        for number, documents in groupby(data, key=_piece_of):
            for expected in left:
                if expected == number:
                    break
                self._write_empty(tokenizer, expected)
            else:
                raise MetroFastError(
                    f"a document of piece {number} reached task {rank} of {world_size} out of "
                    "order: steps between reading and writing may change or drop documents, but "
                    "must not move them"
                )
            self._write(tokenizer, number, documents)
        for number in left:
            self._write_empty(tokenizer, number)

    def _write_empty(self, tokenizer: "PlainTokenizer", number: int) -> None:
        """Write a piece without documents, unless another task has finished it meanwhile."""
        if not is_done(self._work, number):
            self._write(tokenizer, number, ())

    def _write(self, tokenizer: "PlainTokenizer", number: int, documents: Iterable[Any]) -> None:
        made = self._work / UNFINISHED / f"{number:05d}.{secrets.token_hex(4)}"
        made.mkdir()  # without its parents: a finished folder must not come back
        tokenizer.output_folder = get_datafolder(str(made))
        tokenizer.rand = default_rng([self._seed, number])
        with os_errors(made, self._work):
            tokenizer.run(self._counted(documents), rank=number)
        for metadata in made.glob("*.metadata"):
            lines = metadata.read_text().splitlines()
            width = lines[0].rpartition("|")[2]
            # datatrove wrote the path of a file that will be removed.
            metadata.write_text("\n".join([f"{self._tokenizer_name}|{width}", *lines[1:]]))
        mark_done(self._work, number, made, self._unknown)

    def _counted(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.stat_update("documents")
            yield document


class PlainTokenizer(DocumentTokenizer):  # type: ignore[misc]
    """datatrove's step, for a tokenizer that puts the ends of documents itself."""

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the step, for which special tokens that are words are only words."""
        loaded = super().tokenizer
        loaded.encode_special_tokens = True
        return loaded

    @cached_property
    def token_size(self) -> int:
        """Bytes of an id. datatrove asks for the number of tokens, but ids may have holes."""
        return 4 if max(self.tokenizer.get_vocab().values()) > iinfo(uint16).max else 2


def _piece_of(document: Document) -> int:
    number = document.metadata.get(_PIECE)
    if not isinstance(number, int):
        raise MetroFastError(
            f"document {document.id} has lost metadata[{_PIECE!r}]: steps between reading and "
            "writing must keep it"
        )
    return number
