"""Reads token rows from Arrow lists without a copy."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast._extras import require
from metro_fast.errors import MetroFastError


def is_arrow(value: object) -> bool:
    """Whether it is an object of pyarrow; this never imports pyarrow."""
    return type(value).__module__.partition(".")[0] == "pyarrow"


def read_arrow(
    value: Any, names: Collection[str] = (), what: str = "the batch"
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None, dict[str, Any]]:
    """Ids, offsets and further columns of a table, a record batch, or an array of lists.

    Args:
        value: A table or record batch with a list column `input_ids`, or only the lists, of
            integers or bools. Chunked columns are joined.
        names: Further columns to give back, if the table has them and they are not all null.
        what: What it is, for messages.

    Returns:
        Values [B, L] and None if all lists have the same length, else flat values and offsets
        [B + 1]; and the other columns by name, those of lists in Arrow and others in numpy.

    Raises:
        TypeError: If it has another type, or the lists do not hold integers.
        MetroFastError: If there are no rows, a null, or an empty list.
    """
    pa = require("pyarrow", "data")
    columns = {}
    if isinstance(value, pa.Table | pa.RecordBatch):
        if "input_ids" not in value.column_names:
            raise MetroFastError(f"the table has {value.column_names}, expected 'input_ids'")
        for name in names:
            if name in value.column_names and name != "input_ids":
                column = value.column(name)
                if column.null_count < len(column):
                    nested = pa.types.is_nested(column.type)
                    columns[name] = column if nested else column.to_numpy()
        value = value.column("input_ids")
    return *_read_lists(value, what), columns


def _read_lists(value: Any, what: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """Values and offsets of an array of lists."""
    pa = require("pyarrow", "data")
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    kinds = (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)
    is_lists = isinstance(value, kinds)
    of_bools = is_lists and pa.types.is_boolean(value.type.value_type)
    if not is_lists or not (of_bools or pa.types.is_integer(value.type.value_type)):
        raise TypeError(
            f"{what} has Arrow type {getattr(value, 'type', type(value).__name__)}, expected "
            "lists of integers"
        )
    if len(value) == 0:
        raise MetroFastError(f"{what} has 0 rows, expected at least 1")
    if value.null_count:
        raise MetroFastError(f"{value.null_count} rows of {what} are null, expected none")
    values = value.flatten()
    if values.null_count:
        raise MetroFastError(f"{values.null_count} tokens of {what} are null, expected none")
    ids = values.to_numpy(zero_copy_only=not of_bools)
    if isinstance(value, pa.FixedSizeListArray):
        return ids.reshape(len(value), -1), None
    offsets = value.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    lengths = np.diff(offsets)
    if (lengths == 0).any():
        row = int(np.flatnonzero(lengths == 0)[0])
        name = "input_ids" if what == "the batch" else what
        raise MetroFastError(f"{name} of row {row} is empty, expected at least one token")
    if (lengths == lengths[0]).all():
        return ids.reshape(len(value), -1), None
    return ids, offsets
