"""Rows of token ids with the names of their samples, read from anything that a collator takes."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast.data.arrow import is_arrow, read_arrow
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Ids, is_tensor, view
from metro_fast.ops.draws import check_counter
from metro_fast.ops.token_rows import TextRanges


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


def read_batch(batch: Any, max_length: int | None) -> UnnamedRows:
    """The rows of a batch, in any form that a DataLoader or a user gives to a collator.

    Args:
        batch: A sequence of mappings with `input_ids` (a list, array or tensor of one dimension)
            and, in all or none of them, integers `sample_id` and `position`; a sequence of such
            rows without mappings; an integer array or tensor [B, L]; a mapping of columns with the
            same names; an Arrow table or record batch with such columns; or an Arrow list array.
        max_length: Number of tokens to which longer rows are cut.

    Raises:
        MetroFastError: If the batch has no rows, a column is missing, or a row is empty.
        TypeError: If the ids of a row are not integers in one dimension.
    """
    columns: Mapping[str, Any] = {}
    if is_arrow(batch):
        ids, offsets, columns = read_arrow(batch)
    elif isinstance(batch, np.ndarray) or is_tensor(batch):
        ids, offsets = _matrix(batch), None
    elif isinstance(batch, Mapping):
        if "input_ids" not in batch:
            raise MetroFastError(f"the batch has columns {list(batch)}, expected 'input_ids'")
        rows = batch["input_ids"]
        if is_arrow(rows):
            ids, offsets, _ = read_arrow(rows)
        elif isinstance(rows, np.ndarray) or is_tensor(rows):
            ids, offsets = _matrix(rows), None
        else:
            ids, offsets = _stack(_sequence(rows))
        columns = {name: batch[name] for name in ("sample_id", "position") if name in batch}
    else:
        features = _sequence(batch)
        if any(isinstance(feature, Mapping) for feature in features):
            ids, offsets, columns = _features(features)
        else:
            ids, offsets = _stack(features)
    count = len(ids) if offsets is None else len(offsets) - 1
    if max_length is not None:
        ids, offsets = _cut(ids, offsets, max_length)
    named = {name: _integers(name, values, count) for name, values in columns.items()}
    return UnnamedRows(ids, offsets, named.get("sample_id"), named.get("position"))


def _sequence(batch: Any) -> Sequence[Any]:
    if isinstance(batch, str | bytes) or not hasattr(batch, "__len__"):
        raise TypeError(
            f"the batch is a {type(batch).__name__}, expected a list of mappings or rows, an "
            "array, or an Arrow table"
        )
    if len(batch) == 0:
        raise MetroFastError("the batch has 0 rows, expected at least 1")
    sequence: Sequence[Any] = batch
    return sequence


def _matrix(value: Any) -> Ids:
    matrix = view("the batch", value)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iu":
        raise TypeError(
            f"the batch is an array of {matrix.dtype} in {matrix.ndim} dimensions, expected "
            "integers in 2: rows and tokens"
        )
    if 0 in matrix.shape:
        raise MetroFastError(
            f"the batch has shape {matrix.shape}, expected at least 1 row of at least 1 token"
        )
    return matrix


def _features(
    features: Sequence[Any],
) -> tuple[Ids, npt.NDArray[np.int64] | None, dict[str, list[Any]]]:
    rows = []
    for index, feature in enumerate(features):
        if not isinstance(feature, Mapping) or "input_ids" not in feature:
            found = list(feature) if isinstance(feature, Mapping) else type(feature).__name__
            raise MetroFastError(f"row {index} of the batch is {found}, expected key 'input_ids'")
        rows.append(feature["input_ids"])
    columns = {}
    for name in ("sample_id", "position"):
        named = sum(name in feature for feature in features)
        if named not in (0, len(rows)):
            raise MetroFastError(
                f"{named} of {len(rows)} rows of the batch have a {name}, expected all or none"
            )
        if named:
            columns[name] = [feature[name] for feature in features]
    return *_stack(rows), columns


def _stack(rows: Sequence[Any]) -> tuple[Ids, npt.NDArray[np.int64] | None]:
    """Rows of equal length as a matrix, other rows as one flat array and their offsets."""
    arrays = [_one_row(row, index) for index, row in enumerate(rows)]
    if len({len(row) for row in arrays}) == 1:
        return np.stack(arrays), None
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(row) for row in arrays], out=offsets[1:])
    return np.concatenate(arrays), offsets


def _one_row(ids: Any, index: int) -> Ids:
    row: Ids
    if isinstance(ids, list):
        try:
            # A third faster than numpy's own conversion of a list.
            row = np.frombuffer(array("q", ids), np.int64) if ids else np.empty(0, np.int64)
        except (TypeError, OverflowError):
            row = np.asarray(ids)
    else:
        row = view("input_ids", ids) if is_tensor(ids) else np.asarray(ids)
    if row.ndim != 1 or (row.size > 0 and row.dtype.kind not in "iu"):
        raise TypeError(
            f"input_ids of row {index} has dtype {row.dtype} and {row.ndim} dimensions, "
            "expected integers in 1 dimension"
        )
    if row.size == 0:
        raise MetroFastError(f"input_ids of row {index} is empty, expected at least one token")
    return row


def _cut(
    ids: Ids, offsets: npt.NDArray[np.int64] | None, max_length: int
) -> tuple[Ids, npt.NDArray[np.int64] | None]:
    if offsets is None:
        return ids[:, :max_length], None
    lengths = np.diff(offsets)
    if lengths.max() <= max_length:
        return ids, offsets
    within = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths) < max_length
    shorter = np.concatenate([[0], np.cumsum(np.minimum(lengths, max_length))])
    return ids[within], shorter


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
