"""The native module's reading of an expert file, with short messages."""

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.file.manifest import Manifest

Ranges = list[tuple[int, int]]


def decode_file(
    file: NDArray[np.uint8],
) -> tuple[Manifest, NDArray[np.float32], NDArray[np.uint8], Ranges]:
    """Check the bytes of an expert file and say where its parts are.

    Args:
        file: uint8, the bytes.

    Returns:
        The manifest, the scales (float32 [groups]), the packed block, which is a view of the
        file, and the first and last byte of each dense tensor.

    Raises:
        FormatError: If the bytes are not a whole, undamaged expert file, or a name in it is too
            long or cannot be printed.
    """
    try:
        manifest, scales, block, dense = _core.decode_expert(file)
    except FormatError as error:
        raise FormatError(shown(str(error), 300)) from error  # it may have every scale
    found = Manifest.from_json(manifest)
    check_tensors(found.named_shapes())
    return found, scales, file[slice(*block)], dense
