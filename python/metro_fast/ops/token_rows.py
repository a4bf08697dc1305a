"""The rows of a batch as the native module reads them: an array, or ranges of a mapped text."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.ops.arrays import Array, Ids, contiguous, integers, view


class TextRanges(NamedTuple):
    """Ranges of the text of a corpus, which a kernel reads directly from the mapped files.

    Attributes:
        files: The mapped files.
        starts: int64 [B], the first token of each row.
        ends: int64 [B], the token after the last one of each row.
        vocab_size: If given, ids at or above it are refused.
    """

    files: _core.TokenFiles
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    vocab_size: int | None = None

    @property
    def size(self) -> int:
        """Number of tokens in all rows."""
        return int((self.ends - self.starts).sum())


class TokenRows(NamedTuple):
    """Rows of token ids, with the names by which their noise is drawn.

    Attributes:
        ids: Token ids: [B, L], or flat together with `offsets`, or ranges of a text.
        offsets: int64 [B + 1], the starts and the last end of ragged rows.
        sample_ids: int64 [B], 0 or more; the index of a row in the batch if None. Ranges of a text
            need them.
        noise_mask: uint8, one value per token that is not 0 if the token is noise.
        phases: int64 [B], the phase of training that weights a row's denoisers.
    """

    ids: Ids | TextRanges
    offsets: npt.NDArray[np.int64] | None = None
    sample_ids: npt.NDArray[np.int64] | None = None
    noise_mask: npt.NDArray[np.uint8] | None = None
    phases: npt.NDArray[np.int64] | None = None

    @classmethod
    def read(
        cls,
        ids: Array | TextRanges,
        offsets: Array | Sequence[int] | None,
        sample_ids: Array | Sequence[int] | None,
        noise_mask: Array | None = None,
        phases: Array | None = None,
    ) -> Self:
        """Check what the caller gave, and borrow its memory.

        Raises:
            TypeError: If an array has the wrong dtype or number of dimensions.
        """
        rows = ids if isinstance(ids, TextRanges) else contiguous(view("ids", ids))
        return cls(
            rows,
            None if offsets is None else integers("offsets", offsets),
            None if sample_ids is None else integers("sample_ids", sample_ids),
            None if noise_mask is None else _as_mask(noise_mask, rows),
            None if phases is None else integers("phases", phases),
        )


def _as_mask(noise_mask: Array, rows: Ids | TextRanges) -> npt.NDArray[np.uint8]:
    assert not isinstance(rows, TextRanges)
    mask = view("noise_mask", noise_mask)
    if mask.dtype != np.bool_ or mask.shape != rows.shape:
        raise TypeError(
            f"noise_mask is an array of {mask.dtype} with shape {mask.shape}, expected bool of the "
            f"shape {rows.shape} of ids"
        )
    return contiguous(mask).reshape(-1).view(np.uint8)
