"""The initial values that a residual is taken against."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core


def initial_checksum(given: Mapping[str, NDArray[np.float32]]) -> int:
    """CRC32C of given initial values, in ascending order of names."""
    flat = [given[name].reshape(-1) for name in sorted(given)]
    return _core.crc32c(np.concatenate(flat).view(np.uint8))
