"""The columns of a batch, in any form that a DataLoader, a tokenizer or a user gives them."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast._extras import require
from metro_fast.data.arrow import is_arrow, read_arrow
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Ids, is_tensor, view

NAMES = (
    "input_ids",
    "sample_id",
    "position",
    "attention_mask",
    "labels",
    "decoder_input_ids",
    "token_type_ids",
)
"""The columns that are read; others, such as the text itself, have no place in a batch."""


class Tokens(NamedTuple):
    """One value for each token of the rows of a batch.

    Attributes:
        values: [B, L], or flat together with `offsets`.
        offsets: int64 [B + 1], the starts and the last end of ragged rows; else None.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64] | None

    @property
    def bounds(self) -> npt.NDArray[np.int64]:
        """int64 [B + 1], the starts and the last end of the rows in the flat values."""
        if self.offsets is not None:
            return self.offsets
        rows, width = self.values.shape
        return np.arange(0, (rows + 1) * width, width, dtype=np.int64)

    @property
    def flat(self) -> npt.NDArray[Any]:
        """The values of all rows, one row after the other."""
        return self.values.reshape(-1)

    def narrow(self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> "Tokens":
        """The rows from `starts` to `ends`, places in the flat values; these rows if that is all.

        Args:
            starts: int64 [B], at or after the start of each row.
            ends: int64 [B], at or before the end of each row.
        """
        bounds = self.bounds
        if np.array_equal(starts, bounds[:-1]) and np.array_equal(ends, bounds[1:]):
            return self
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = self.flat[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)]
        if (lengths == lengths[0]).all():
            return Tokens(values.reshape(len(lengths), -1), None)
        return Tokens(values, offsets)


def read_columns(batch: Any) -> dict[str, Any]:
    """The columns of a batch by their names, each in the form in which it came.

    Args:
        batch: See `metro_fast.data.rows.read_batch`.

    Raises:
        MetroFastError: If the batch has no rows or no `input_ids`, or some of its rows lack a
            column that others have.
        TypeError: If it is not a batch at all.
    """
    if not is_arrow(batch) and hasattr(batch, "__arrow_c_stream__"):
        batch = require("pyarrow", "data").table(batch)  # a data frame of pandas or polars
    if is_arrow(batch):
        ids, offsets, columns = read_arrow(batch, NAMES)
        return {"input_ids": Tokens(ids, offsets), **columns}
    if isinstance(batch, np.ndarray) or is_tensor(batch):
        return {"input_ids": batch}
    if isinstance(batch, Mapping):
        if "input_ids" not in batch:
            raise MetroFastError(f"the batch has columns {list(batch)}, expected 'input_ids'")
        return {name: batch[name] for name in NAMES if _holds(batch.get(name))}
    features = [_as_mapping(feature) for feature in _sequence(batch)]
    if any(isinstance(feature, Mapping) for feature in features):
        return _features(features)
    return {"input_ids": features}


def read_tokens(name: str, column: Any) -> Tokens:
    """The values of a column that has one for each token.

    Args:
        name: Name of the column.
        column: A matrix, a sequence of rows, an Arrow array of lists, or values that were read.

    Raises:
        MetroFastError: If there are no rows, or one is empty.
        TypeError: If the values of a row are not numbers in one dimension, or the ids not integers.
    """
    what = "the batch" if name == "input_ids" else name
    if isinstance(column, Tokens):
        return column
    if is_arrow(column):
        values, offsets, _ = read_arrow(column, what=what)
        return Tokens(values, offsets)
    if isinstance(column, np.ndarray) and column.dtype == object and column.ndim == 1:
        column = list(column)  # as pandas gives a column of rows
    if isinstance(column, np.ndarray) or is_tensor(column):
        return Tokens(_matrix(name, what, column), None)
    rows = [_one_row(name, row, index) for index, row in enumerate(_sequence(column))]
    if len({len(row) for row in rows}) == 1:
        return Tokens(np.stack(rows), None)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Tokens(np.concatenate(rows), offsets)


def _holds(column: Any) -> bool:
    """Whether a column has values; that of a dataset may be a list of None."""
    if isinstance(column, list) or getattr(column, "dtype", None) == np.dtype(object):
        return any(value is not None for value in column)
    return column is not None


def _as_mapping(feature: Any) -> Any:
    """A row; as a mapping if it is an `Encoding` of the tokenizers package."""
    if type(feature).__module__.partition(".")[0] == "tokenizers":
        return {"input_ids": feature.ids, "attention_mask": feature.attention_mask}
    return feature


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


def _features(features: Sequence[Any]) -> dict[str, list[Any]]:
    for index, feature in enumerate(features):
        if not isinstance(feature, Mapping) or "input_ids" not in feature:
            found = list(feature) if isinstance(feature, Mapping) else type(feature).__name__
            raise MetroFastError(f"row {index} of the batch is {found}, expected key 'input_ids'")
    columns = {}
    for name in NAMES:
        named = sum(feature.get(name) is not None for feature in features)
        if named not in (0, len(features)):
            raise MetroFastError(
                f"{named} of {len(features)} rows of the batch have a {name}, expected all or none"
            )
        if named:
            columns[name] = [feature[name] for feature in features]
    return columns


def _matrix(name: str, what: str, value: Any) -> npt.NDArray[Any]:
    matrix = _view(name, what, value)
    if matrix.ndim != 2 or matrix.dtype.kind not in _kinds(name):
        raise TypeError(
            f"{what} is an array of {matrix.dtype} in {matrix.ndim} dimensions, expected "
            "integers in 2: rows and tokens"
        )
    if 0 in matrix.shape:
        raise MetroFastError(
            f"{what} has shape {matrix.shape}, expected at least 1 row of at least 1 token"
        )
    return matrix


def _view(name: str, what: str, value: Any) -> npt.NDArray[Any]:
    """The view of an array or tensor; numpy has no bfloat16, of which a mask may be."""
    if name == "attention_mask" and is_tensor(value) and value.is_floating_point():
        value = value.float()
    return view(what, value)


def _kinds(name: str) -> str:
    """Kinds of numpy types that a column may have: a mask may also be of bools or floats."""
    return "iubf" if name == "attention_mask" else "iu"


def _one_row(name: str, values: Any, index: int) -> Ids:
    row: Ids
    if isinstance(values, list):
        try:
            # A third faster than numpy's own conversion of a list.
            row = np.frombuffer(array("q", values), np.int64) if values else np.empty(0, np.int64)
        except (TypeError, OverflowError):
            row = np.asarray(values)
    else:
        is_array = is_tensor(values) or isinstance(values, np.ndarray)
        row = _view(name, name, values) if is_array else np.asarray(values)
    if row.ndim != 1 or (row.size > 0 and row.dtype.kind not in _kinds(name)):
        advice = {0: ": a batch of one row is a list of one list"}.get(row.ndim, "")
        if row.ndim == 2:
            advice = ": tokenize without return_tensors, or give one batch in place of a list"
        raise TypeError(
            f"{name} of row {index} has dtype {row.dtype} and {row.ndim} dimensions, "
            f"expected integers in 1 dimension{advice}"
        )
    if row.size == 0:
        raise MetroFastError(f"{name} of row {index} is empty, expected at least one token")
    return row
