"""One expert of a pool: its bytes, and what every swap to it needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metro_fast import _core
from metro_fast.experts.expert import Expert


class Packed(NamedTuple):
    """An expert in memory.

    Attributes:
        expert: The expert, whose bytes are checked.
        prepared: What the decoder prepared for swaps.
    """

    expert: Expert
    prepared: Any


@dataclass
class Entry:
    """An expert and its origin.

    Attributes:
        packed: The expert in memory; None after it was dropped from there.
        path: The path from which it can be read again, or None.
        nbytes: Bytes of its file.
        checksum: The checksums of file and configuration, see `checksum_of`.
        used: The number of its last use; those of later uses are higher.
    """

    packed: Packed | None
    path: Path | None
    nbytes: int
    checksum: tuple[int, int]
    used: int


def checksum_of(expert: Expert) -> tuple[int, int]:
    """The CRC32C of an expert's file, and that of its configuration."""
    config = np.frombuffer(expert.config or b"", np.uint8)
    return _core.crc32c(expert.file), _core.crc32c(config)
