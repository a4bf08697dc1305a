"""A tokenized corpus as a dataset of blocks."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.data.collator import Collator, FinishedBatch
from metro_fast.data.epoch import EpochCell
from metro_fast.data.rows import Rows
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import integers
from metro_fast.ops.draws import check_counter
from metro_fast.ops.token_rows import TextRanges

_Numbers = npt.NDArray[np.int64]


class TokenCorpus:
    """Blocks of a tokenized corpus, memory-mapped: files of datatrove, Megatron-LM or fairseq.

    All files, sorted by name, form one text of items: documents (datatrove), sequences
    (Megatron-LM) or sentences (fairseq, where an item of one token ends a document). Every block is
    one contiguous range of the text, and `blocks` selects its contents:

    - "none": equal cuts of `block_size` tokens, across all borders; the last may be shorter.
    - "complete": as many whole items as fit.
    - "complete_doc": as many whole items of one document as fit; separators are left out, and so
      are blocks of one token.
    - "eos": one item.
    - "pack": as many whole items as fit, and longer ones in pieces, so that every token is read
      once per epoch.

    Except in "none" and "pack", an item longer than `block_size` is a block of its own. It is read
    as a window of `block_size` tokens with a random start, drawn by (seed, epoch, sample id).

    The id of a sample is the index of its block, in any order. With `shuffle`, index i of an epoch
    reads block p(i), where p is a permutation keyed by (seed, epoch) that takes no memory, so that
    a sequential sampler gives shuffled data. Files must be local, and must not change while a
    corpus is open. This is a map-style dataset for `torch.utils.data.DataLoader` and
    `CorpusLoader`. With a collator, whole batches are gathered and corrupted natively, in the
    worker.

    Before each batch the lengths of its files are compared with those at the start, so that a file
    which was cut off is an error (one that is cut off during a batch ends the process). A process
    that opens a pickled corpus compares a fingerprint of its contents.

    Args:
        path: Folder of `NAME.ds`, `NAME.ds.index` and `NAME.ds.metadata`, as `prepare` and
            datatrove write them; folder of `NAME.bin` and `NAME.idx`, as Megatron-LM and fairseq
            write them; or the prefix `NAME` of one such pair.
        block_size: Largest number of tokens in a block. For span corruption, see
            `metro_fast.ops.compute_input_and_target_lengths`.
        blocks: "none", "complete", "complete_doc", "eos" or "pack".
        collator: Corrupts batches; give the same object to the DataLoader as `collate_fn`.
        drop_last: Whether to leave out a last block that is shorter; only for blocks "none".
        shuffle: Whether every epoch has an order of its own.
        seed: Seed of the order and of the windows; 0 to 2^63 - 1.
        segment_ids: Whether items have `segment_ids`; not with a collator, which cannot use them.
        vocab_size: If given, reading a block with an id at or above it is an error.

    Raises:
        FileNotFoundError: If the folder, an index or a metadata file is missing.
        FormatError: If files disagree about their lengths, an index is damaged, or there are no
            tokens.
        MetroFastError: If a value is outside its domain, or no block is left.

    Example:
        >>> import tempfile
        >>> from metro_fast.data import write_corpus
        >>> folder = tempfile.mkdtemp()
        >>> write_corpus(folder, [[5, 6, 7, 1], [8, 9, 1]])
        >>> corpus = TokenCorpus(folder, block_size=3)
        >>> len(corpus), corpus[1]["input_ids"].tolist(), corpus[1]["sample_id"]
        (3, [1, 8, 9], 1)
        >>> packed = TokenCorpus(folder, block_size=8, blocks="pack", segment_ids=True)
        >>> packed[0]["segment_ids"].tolist()
        [1, 1, 1, 1, 2, 2, 2]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        block_size: int,
        blocks: str = "none",
        collator: Collator | None = None,
        drop_last: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        segment_ids: bool = False,
        vocab_size: int | None = None,
    ) -> None:
        if check_counter("block_size", block_size) == 0:
            raise MetroFastError("block_size is 0, expected 1 or more tokens")
        limit = None if collator is None else collator.max_length
        if limit is not None and block_size > limit:
            raise MetroFastError(
                f"block_size is {block_size}, but the collator's max_length is {limit}, so the "
                "rest of each block would never be read: make the two equal"
            )
        if drop_last and blocks != "none":
            raise MetroFastError(
                f'drop_last is True and blocks is "{blocks}", expected blocks "none", where only '
                "the last block can be shorter: leave drop_last out"
            )
        if segment_ids and collator is not None:
            raise MetroFastError(
                "segment_ids is True and there is a collator, which would lose them: leave out one "
                "of the two"
            )
        self.path = Path(path).absolute()
        self.block_size = block_size
        self.blocks = blocks
        self.collator = collator
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.seed = check_counter("seed", seed)
        self.segment_ids = segment_ids
        self.vocab_size = vocab_size
        self._open()
        if len(self) == 0:
            raise MetroFastError(
                f'block_size is {block_size} and blocks "{blocks}", but {self.path} holds '
                f"{self.num_tokens} tokens in {self.num_documents} documents, which give no block: "
                "use a smaller block_size, drop_last=False or other blocks"
            )
        # Without a collator, the corpus keeps the epoch, in memory that it shares with workers.
        own = collator is None and (shuffle or self._blocks.crops)
        self._epoch = EpochCell() if own else None

    def _open(self) -> None:
        self._files = _core.TokenFiles(self.path)
        self._blocks = self._files.cut(self.blocks, self.block_size, self.drop_last)

    def __len__(self) -> int:
        return self._blocks.count

    @property
    def num_tokens(self) -> int:
        """Number of tokens in the whole corpus."""
        return self._files.tokens

    @property
    def num_documents(self) -> int:
        """Number of documents in the whole corpus."""
        return self._files.documents

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer in the metadata; "unknown" for Megatron-LM and fairseq."""
        return self._files.tokenizer

    @property
    def epoch(self) -> int:
        """The current epoch: the collator's, or else that of `set_epoch`."""
        cell = self._epoch if self.collator is None else self.collator.epoch
        return 0 if cell is None else cell.get()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order, the windows and the collator, also in workers.

        A Trainer calls this.
        """
        if self.collator is not None:
            self.collator.set_epoch(epoch)
        elif self._epoch is not None:
            self._epoch.set(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One block: `input_ids` (int64 [L]), `sample_id`, and `segment_ids` (int64 [L]) if asked.

        Segments count the documents of the block from 1.
        """
        return self._items([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A list of one finished batch if there is a collator, else a list of the items."""
        if self.collator is None:
            return self._items(indices)
        blocks, starts, ends, positions = self._locate(indices)
        ranges = TextRanges(self._files, starts, ends, self.vocab_size)
        try:
            return [FinishedBatch(self.collator.collate(Rows(ranges, None, blocks, positions)))]
        except _core.FormatError as error:
            raise _core.FormatError(f"{self.path}: {error}") from error

    def _items(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        blocks, starts, ends, _ = self._locate(indices)
        ids = self._files.gather(starts, ends)
        self._check_vocabulary(ids, blocks)
        flat = {"input_ids": ids.astype(np.int64)}
        if self.segment_ids:
            flat["segment_ids"] = self._files.segments(starts, ends)
        offsets = [0, *np.cumsum(ends - starts).tolist()]
        return [
            {
                "sample_id": sample_id,
                # Copies, so that a row that is kept does not keep its batch.
                **{name: ids[start:end].copy() for name, ids in flat.items()},
            }
            for sample_id, start, end in zip(blocks.tolist(), offsets, offsets[1:], strict=False)
        ]

    def _locate(self, indices: Sequence[int]) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
        """Blocks, their starts and ends in the text, and their positions in training.

        Negative indices count from the end.

        Raises:
            IndexError: If an index is outside the corpus.
            MetroFastError: If there is no index, or the epoch is beyond what positions can count.
        """
        places = integers("indices", indices)
        if not places.size:
            raise MetroFastError("the batch has 0 rows, expected at least 1 index")
        outside = (places < -len(self)) | (places >= len(self))
        if outside.any():
            raise IndexError(
                f"index is {int(places[outside][0])}, but the corpus has {len(self)} blocks"
            )
        places = places % len(self)
        epoch = self.epoch
        if (epoch + 1) * len(self) >= 1 << 63:
            raise MetroFastError(
                f"epoch is {epoch}, expected less than {(1 << 63) // len(self) - 1} for a corpus "
                f"of {len(self)} blocks: positions in training are counted in 63 bits"
            )
        blocks, starts, ends = self._blocks.locate(places, self.shuffle, self.seed, epoch)
        return blocks, starts, ends, epoch * len(self) + places

    def _check_vocabulary(self, ids: npt.NDArray[Any], blocks: npt.NDArray[np.int64]) -> None:
        if self.vocab_size is None or int(ids.max()) < self.vocab_size:
            return
        raise _core.FormatError(
            f"{self.path} holds token {int(ids.max())} in one of the blocks {blocks[:8].tolist()}, "
            f"expected ids below vocab_size {self.vocab_size}: the corpus was made with another "
            f"tokenizer ({self.tokenizer_name})"
        )

    def __repr__(self) -> str:
        return (
            f"TokenCorpus({str(self.path)!r}, block_size={self.block_size}, "
            f"blocks={self.blocks!r}: {len(self):,} blocks, {self.num_tokens:,} tokens)"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A memory map cannot be sent to another process, which opens the files again instead.
        state = {k: value for k, value in vars(self).items() if k not in ("_files", "_blocks")}
        return {**state, "_fingerprint": self._fingerprint()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        before = state.pop("_fingerprint")
        vars(self).update(state)
        self._open()
        if self._fingerprint() != before:
            raise _core.FormatError(
                f"{self.path} is not the corpus that was opened before: its files were written "
                "again meanwhile, so open it again in every process"
            )

    def _fingerprint(self) -> str:
        """SHA-256 of the corpus's sizes, and of 64 blocks from all over it, 64 tokens of each."""
        places = np.unique(np.linspace(0, max(len(self) - 1, 0), 64).astype(np.int64))
        sizes = (self.num_tokens, self.num_documents, len(self), self.tokenizer_name)
        found = hashlib.sha256(repr(sizes).encode())
        if len(self):
            _, starts, ends = self._blocks.locate(places, False, 0, 0)
            ids = self._files.gather(starts, np.minimum(ends, starts + 64))
            for part in (starts, ends, ids.astype(np.int64)):
                found.update(part.tobytes())
        return found.hexdigest()
