"""Names for samples that came without one."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt


def content_ids(rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """A 63-bit hash of the tokens of each row and of the number of equal rows before it.

    Equal rows of one batch get different ids, so that they are not corrupted in the same way. Their
    ids therefore depend on the batch.

    Args:
        rows: Integer arrays of one dimension. Only their values matter, not their width.

    Returns:
        int64 [B], 0 or more.

    Example:
        >>> a, b = np.array([5, 6]), np.array([5, 6], np.uint16)
        >>> ids = content_ids([a, b])
        >>> content_ids([b])[0] == ids[0], ids[0] == ids[1]
        (np.True_, np.False_)
    """
    seen: Counter[bytes] = Counter()
    ids = np.empty(len(rows), np.int64)
    for index, row in enumerate(rows):
        content = row.astype("<i8").tobytes()
        salt = seen[content].to_bytes(8, "little")
        seen[content] += 1
        digest = blake2b(content, digest_size=8, salt=salt).digest()
        ids[index] = int.from_bytes(digest, "little") >> 1
    return ids
