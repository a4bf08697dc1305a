"""Rows of a mapped text, which kernels read where they lie."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast import _core


class TextRanges(NamedTuple):
    """Ranges of the text of a corpus, instead of an array of ids.

    Attributes:
        files: The mapped files.
        starts: int64 [B]: first token of each row.
        ends: int64 [B]: the token behind its last.
        vocab_size: Where given, ids at or above it are refused.
    """

    files: _core.TokenFiles
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    vocab_size: int | None = None

    @property
    def size(self) -> int:
        """Tokens of all rows."""
        return int((self.ends - self.starts).sum())
