"""Sizes of an expert on disk and in memory, and the limit on the latter."""

import numpy as np
from numpy.typing import NDArray

from metro_fast._memory import check_decoded
from metro_fast.experts.file.manifest import Manifest


class Sized:
    """An expert that knows how much memory a call may take.

    Attributes:
        file: uint8, the bytes of the file.
        manifest: Names and shapes.
        max_decoded_bytes: Most bytes that a call may decode to; None stands for
            METRO_FAST_MAX_DECODED_BYTES, and without it for the free memory.
    """

    file: NDArray[np.uint8]
    manifest: Manifest
    max_decoded_bytes: int | None

    @property
    def nbytes(self) -> int:
        """Size of the weights file in bytes."""
        return self.file.nbytes

    @property
    def bits_per_parameter(self) -> float:
        """Bits of the whole weights file divided by all parameters, including dense ones."""
        return 8 * self.nbytes / max(1, self.manifest.parameters)

    @property
    def ratio(self) -> float:
        """How many times smaller the weights file is than 16 bits per parameter."""
        return 16 / self.bits_per_parameter

    def check_size(self, per_trit: float, what: str) -> None:
        """Refuse a call that would take more memory than `max_decoded_bytes`.

        Args:
            per_trit: Bytes that the call takes for each trit.
            what: The call, as the start of a sentence.

        Raises:
            MetroFastError: If it would; nothing is decoded then.

        Example:
            >>> from metro_fast.experts import compress
            >>> compress({"w": np.float32([[1, -3]])}, kind="other", density=0.5).check_size(
            ...     4, "decoding it"
            ... )
        """
        check_decoded(int(self.manifest.trits * per_trit), what, self.max_decoded_bytes)
