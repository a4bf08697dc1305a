"""Rows of token ids with the names of their samples: what collators take, from any source."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import is_tensor, view
from metro_fast.ops.draws import check_counter


class Rows(NamedTuple):
    """A batch before it is corrupted.

    Attributes:
        ids: Token ids: [B, L], or flat together with `offsets`.
        offsets: int64 [B + 1] starts and last end of ragged rows; None for equal rows.
        sample_ids: int64 [B] what names the rows.
        positions: int64 [B] place of each row in the order of training, counted over all epochs;
            None where it is not known.
    """

    ids: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64] | None
    sample_ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64] | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        if self.offsets is None:
            return int(self.ids.shape[1])
        return int(np.diff(self.offsets).max())


def stack(rows: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Equal rows as a matrix, others as one flat array and their offsets."""
    lengths = {len(row) for row in rows}
    if len(lengths) == 1:
        return np.stack(rows), None
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.concatenate(rows), offsets


def read_features(
    features: Sequence[Mapping[str, Any]], max_length: int | None
) -> tuple[list[npt.NDArray[Any]], npt.NDArray[np.int64] | None]:
    """Token ids and sample ids of the features that a DataLoader hands to its collator.

    Args:
        features: Mappings with `input_ids` (list, array or tensor of one dimension) and, in all or
            none of them, an integer `sample_id`.
        max_length: Tokens to which longer rows are cut.

    Raises:
        MetroFastError: If there is no feature, a column is missing, or a row is empty.
        TypeError: If ids are not integers in one dimension.
    """
    if isinstance(features, Mapping) or not hasattr(features, "__len__"):
        raise TypeError(f"the batch is a {type(features).__name__}, expected a list of mappings")
    if len(features) == 0:
        raise MetroFastError("the batch has 0 rows, expected at least 1")
    rows = []
    for index, feature in enumerate(features):
        if not isinstance(feature, Mapping) or "input_ids" not in feature:
            found = list(feature) if isinstance(feature, Mapping) else type(feature).__name__
            raise MetroFastError(f"row {index} of the batch is {found}, expected key 'input_ids'")
        row = _one_row(feature["input_ids"], index)
        rows.append(row if max_length is None else row[:max_length])
    named = sum("sample_id" in feature for feature in features)
    if named == 0:
        return rows, None
    if named != len(rows):
        raise MetroFastError(
            f"{named} of {len(rows)} rows of the batch have a sample_id, expected all or none"
        )
    return rows, _sample_ids([feature["sample_id"] for feature in features])


def _sample_ids(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    named = (check_counter(f"sample_id of row {row}", value) for row, value in enumerate(values))
    return np.array(list(named), np.int64)


def _one_row(ids: Any, index: int) -> npt.NDArray[Any]:
    row = view("input_ids", ids) if is_tensor(ids) else np.asarray(ids)
    if row.ndim != 1 or (row.size > 0 and row.dtype.kind not in "iu"):
        raise TypeError(
            f"input_ids of row {index} has dtype {row.dtype} and {row.ndim} dimensions, "
            "expected integers in 1 dimension"
        )
    if row.size == 0:
        raise MetroFastError(f"input_ids of row {index} is empty, expected at least one token")
    return row
