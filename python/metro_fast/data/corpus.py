"""A tokenized corpus as a dataset of fixed-length blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.data.collator import Collator, FinishedBatch
from metro_fast.data.rows import Rows
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import integers
from metro_fast.ops.draws import check_counter


class TokenCorpus:
    """Contiguous blocks of a folder of datatrove token files, memory-mapped.

    The folder's `*.ds` files, sorted by name, are one text, cut into blocks of `block_size` tokens
    that may cross the borders of documents and files. The id of a sample is the index of its block.
    Files must be local, and not change while a corpus is open. A map-style dataset for
    `torch.utils.data.DataLoader`; with a collator, whole batches are gathered and corrupted in two
    native calls, in the worker.

    Args:
        path: Folder with `NAME.ds`, `NAME.ds.index` and `NAME.ds.metadata`, as `prepare` and
            datatrove write them.
        block_size: Tokens of a block; for span corruption see
            `metro_fast.ops.compute_input_and_target_lengths`.
        collator: Corrupts batches; give the same object to the DataLoader as `collate_fn`.
        drop_last: Leave out a last block that is shorter.
        vocab_size: Where given, an id at or above it is an error, met when its block is read.

    Raises:
        FileNotFoundError: If the folder, an index or a metadata file is missing.
        FormatError: If files disagree about their lengths, or there are no tokens.
        MetroFastError: If a value is outside its domain, or no whole block is left.

    Example:
        >>> import tempfile
        >>> from metro_fast.data import write_corpus
        >>> folder = tempfile.mkdtemp()
        >>> write_corpus(folder, [[5, 6, 7, 1], [8, 9, 1]])
        >>> corpus = TokenCorpus(folder, block_size=3)
        >>> len(corpus), corpus[1]["input_ids"].tolist(), corpus[1]["sample_id"]
        (3, [1, 8, 9], 1)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        block_size: int,
        collator: Collator | None = None,
        drop_last: bool = False,
        vocab_size: int | None = None,
    ) -> None:
        if check_counter("block_size", block_size) == 0:
            raise MetroFastError("block_size is 0, expected 1 or more tokens")
        limit = None if collator is None else collator.max_length
        if limit is not None and block_size > limit:
            raise MetroFastError(
                f"block_size is {block_size}, but the collator's max_length is {limit}: the rest "
                "of each block would never be read; make the two equal"
            )
        self.path = Path(path).absolute()
        self.block_size = block_size
        self.collator = collator
        self.drop_last = drop_last
        self.vocab_size = vocab_size
        self._files = _core.TokenFiles(self.path)
        self._length = self._files.tokens // block_size
        if not drop_last and self._files.tokens % block_size:
            self._length += 1
        if self._length == 0:
            raise MetroFastError(
                f"block_size is {block_size}, but {self.path} holds {self.num_tokens} tokens: "
                "use a smaller block_size, or drop_last=False"
            )

    def __len__(self) -> int:
        return self._length

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole corpus."""
        return self._files.tokens

    @property
    def num_documents(self) -> int:
        """Documents of the whole corpus."""
        return self._files.documents

    @property
    def tokenizer_name(self) -> str:
        """What the metadata calls the tokenizer."""
        return self._files.tokenizer

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the collator, in workers too; a Trainer calls this."""
        if self.collator is not None:
            self.collator.set_epoch(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One block: `input_ids` (int64 [block_size]; the last may be shorter) and `sample_id`."""
        rows = self._gather([index])
        return {"input_ids": rows.ids.reshape(-1).astype(np.int64), "sample_id": index % len(self)}

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """With a collator, a list of one finished batch; else a list of the items."""
        if self.collator is None:
            return [self[index] for index in indices]
        return [FinishedBatch(self.collator.collate(self._gather(indices)))]

    def _gather(self, indices: Sequence[int]) -> Rows:
        """The blocks as rows; negative indices count from the end.

        Raises:
            IndexError: If an index is outside the corpus.
            FormatError: If a token is outside the vocabulary.
        """
        blocks = integers("indices", indices)
        if not blocks.size:
            raise MetroFastError("the batch has 0 rows, expected at least 1 index")
        outside = (blocks < -len(self)) | (blocks >= len(self))
        if outside.any():
            raise IndexError(f"block {int(blocks[outside][0])} of a corpus of {len(self)} blocks")
        blocks = blocks % len(self)
        starts = blocks * self.block_size
        ends = np.minimum(starts + self.block_size, self.num_tokens)
        ids = self._files.gather(starts, ends)
        self._check_vocabulary(ids, blocks)
        if (ends - starts == self.block_size).all():
            return Rows(ids.reshape(len(blocks), self.block_size), None, blocks)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
        return Rows(ids, offsets, blocks)

    def _check_vocabulary(self, ids: npt.NDArray[Any], blocks: npt.NDArray[np.int64]) -> None:
        if self.vocab_size is None or int(ids.max()) < self.vocab_size:
            return
        raise _core.FormatError(
            f"{self.path} holds token {int(ids.max())} in one of the blocks {blocks[:8].tolist()}, "
            f"expected ids below vocab_size {self.vocab_size}: it was made with another tokenizer "
            f"({self.tokenizer_name})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A map cannot be sent to another process: it opens the files itself.
        return {name: value for name, value in vars(self).items() if name != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._files = _core.TokenFiles(self.path)
