"""Reads token rows from Arrow lists without a copy."""

from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast._extras import require
from metro_fast.errors import MetroFastError


def is_arrow(value: object) -> bool:
    """Whether it is an object of pyarrow; this never imports pyarrow."""
    return type(value).__module__.partition(".")[0] == "pyarrow"


def read_arrow(
    value: Any,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None, dict[str, npt.NDArray[Any]]]:
    """Ids, offsets and further columns of a table, a record batch, or a list array.

    Args:
        value: A table or record batch with a list column `input_ids` and, optionally, integer
            columns `sample_id` and `position`; or only the list column. Chunked columns are joined.

    Returns:
        ids [B, L] and None if all lists have the same length, else flat ids and offsets [B + 1];
        and the columns by name.

    Raises:
        TypeError: If it has another type, or the lists do not hold integers.
        MetroFastError: If there are no rows, a null, or an empty list.
    """
    pa = require("pyarrow", "data")
    columns = {}
    if isinstance(value, pa.Table | pa.RecordBatch):
        if "input_ids" not in value.column_names:
            raise MetroFastError(f"the table has {value.column_names}, expected 'input_ids'")
        for name in ("sample_id", "position"):
            if name in value.column_names:
                columns[name] = value.column(name).to_numpy()
        value = value.column("input_ids")
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    kinds = (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)
    if not isinstance(value, kinds) or not pa.types.is_integer(value.type.value_type):
        raise TypeError(
            f"the batch has Arrow type {getattr(value, 'type', type(value).__name__)}, expected "
            "lists of integers"
        )
    if len(value) == 0:
        raise MetroFastError("the batch has 0 rows, expected at least 1")
    if value.null_count:
        raise MetroFastError(f"{value.null_count} rows of the batch are null, expected none")
    values = value.flatten()
    if values.null_count:
        raise MetroFastError(f"{values.null_count} tokens of the batch are null, expected none")
    ids = values.to_numpy(zero_copy_only=True)
    if isinstance(value, pa.FixedSizeListArray):
        return ids.reshape(len(value), -1), None, columns
    offsets = value.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    lengths = np.diff(offsets)
    if (lengths == 0).any():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise MetroFastError(f"input_ids of row {row} is empty, expected at least one token")
    if (lengths == lengths[0]).all():
        return ids.reshape(len(value), -1), None, columns
    return ids, offsets, columns
