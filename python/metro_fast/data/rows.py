"""Rows of token ids with the names of their samples, read from anything that a collator takes."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast.data.columns import Tokens, read_columns, read_tokens
from metro_fast.data.padding import without_end, without_padding
from metro_fast.errors import MetroFastError
from metro_fast.ops import Vocabulary
from metro_fast.ops.arrays import Ids, is_tensor
from metro_fast.ops.draws import check_counter
from metro_fast.ops.token_rows import TextRanges

_NARROW = (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.int16))
"""Types that hold the ids of a small vocabulary, and that the native module does not read."""


class Rows(NamedTuple):
    """A batch before it is corrupted.

    Attributes:
        ids: Token ids: [B, L], or flat together with `offsets`, or ranges of a text.
        offsets: int64 [B + 1], the starts and the last end of ragged rows of an array; else None.
        sample_ids: int64 [B], the names of the rows.
        positions: int64 [B], the place of each row in the order of training, counted over all
            epochs; None if it is not known.
    """

    ids: Ids | TextRanges
    offsets: npt.NDArray[np.int64] | None
    sample_ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64] | None = None


class UnnamedRows(NamedTuple):
    """A batch before its rows have names: `Rows` whose sample ids may be missing."""

    ids: Ids
    offsets: npt.NDArray[np.int64] | None
    sample_ids: npt.NDArray[np.int64] | None
    positions: npt.NDArray[np.int64] | None

    def split(self) -> list[Ids]:
        """The rows one by one."""
        if self.offsets is None:
            return list(self.ids)
        return np.split(self.ids, self.offsets[1:-1])


def read_batch(
    batch: Any, max_length: int | None, vocabulary: Vocabulary, end_token_id: int | None
) -> UnnamedRows:
    """The rows of a batch, in any form that a DataLoader, a tokenizer or a user gives.

    Args:
        batch: A sequence of mappings with `input_ids` (a list, array or tensor of one dimension)
            and, in all or none of them, an `attention_mask` and integers `sample_id` and
            `position`; a sequence of such rows without mappings; an integer array or tensor [B, L];
            a mapping of columns with the same names; an Arrow table or record batch with such
            columns; or an Arrow list array. Columns that a tokenizer adds are read too; see
            `without_padding`.
        max_length: Number of tokens to which longer rows are cut, after their padding is gone.
        vocabulary: Has the ids of padding and of the end of a text.
        end_token_id: The id that a collator puts at the ends of texts, and which ends of rows
            therefore lose; None if it puts none.

    Raises:
        MetroFastError: If the batch has no rows, a column is missing or does not fit, or a row is
            empty.
        TypeError: If the ids of a row are not integers in one dimension.
    """
    columns = read_columns(batch)
    tokens = read_tokens("input_ids", columns["input_ids"])
    count = len(tokens.bounds) - 1
    tokens = without_padding(tokens, columns, vocabulary)
    if end_token_id is not None:
        tokens = without_end(tokens, end_token_id)
    if max_length is not None:
        tokens = _cut(tokens, max_length)
    named = {
        name: _integers(name, columns[name], count)
        for name in ("sample_id", "position")
        if name in columns
    }
    ids, offsets = tokens
    if ids.dtype in _NARROW:
        ids = ids.astype(np.int32)
    return UnnamedRows(ids, offsets, named.get("sample_id"), named.get("position"))


def _cut(tokens: Tokens, max_length: int) -> Tokens:
    if tokens.offsets is None:
        return Tokens(tokens.values[:, :max_length], None)
    starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
    return tokens.narrow(starts, np.minimum(ends, starts + max_length))


def _integers(name: str, values: Any, count: int) -> npt.NDArray[np.int64]:
    """One number per row, each 0 or more."""
    if is_tensor(values):
        values = values.tolist()
    numbers = [check_counter(f"{name} of row {row}", value) for row, value in enumerate(values)]
    if len(numbers) != count:
        raise MetroFastError(
            f"{name} holds {len(numbers)} numbers for {count} rows, expected 1 per row"
        )
    return np.array(numbers, np.int64)
