"""What the trits of each tensor stand for, as the native decoder takes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.file.manifest import Manifest, TernaryTensor

NATIVE: dict[str, tuple[str, Any]] = {
    "F32": ("f32", np.float32),
    "F16": ("f16", np.uint16),
    "BF16": ("bf16", np.uint16),
}
"""By the dtype's name in safetensors: its name in the native module, and the bits it writes."""


class Segments(NamedTuple):
    """A row a ternary tensor, in the manifest's order.

    Attributes:
        starts: int64 [n], the first trit.
        lengths: int64 [n].
        values: float32 [n, 3], of trits -1, 0 and +1.
        write: bool [n], whether it is decoded.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[np.float32]
    write: NDArray[np.bool_]

    def expand(
        self, block: NDArray[np.uint8], dtype: str, out: NDArray[Any], num_threads: int
    ) -> None:
        """Decode a packed block into `out`, which has an element a trit.

        Args:
            block: uint8, the packed block.
            dtype: As safetensors names it; `out` has float32 elements or 16 bits.
            out: Where to write.
            num_threads: Threads to use.

        Raises:
            FormatError: If a stream is damaged.
        """
        flat = self.values.reshape(-1)
        native, _ = NATIVE[dtype]
        _core.expand(block, self.starts, self.lengths, flat, self.write, native, out, num_threads)


def segments_of(
    manifest: Manifest,
    scales: NDArray[np.float32],
    *,
    write: Callable[[TernaryTensor], bool] = lambda tensor: True,
    factor: Callable[[TernaryTensor], float] = lambda tensor: 1.0,
    own_dtype: bool = False,
) -> Segments:
    """The segments of an expert.

    Args:
        manifest: The expert's.
        scales: float32 [groups].
        write: Which tensors are decoded.
        factor: What a tensor's update is multiplied with.
        own_dtype: Round the values to the tensor's own dtype first, as a file of that dtype would.

    Example:
        >>> from metro_fast.experts import compress
        >>> expert = compress({"m.ia3_l": np.float32([1.5, 1.0])}, density=0.5)
        >>> segments_of(expert.manifest, np.float32([0.5])).values.tolist()
        [[0.5, 1.0, 1.5]]
    """
    tensors = manifest.tensors
    values = np.empty((len(tensors), 3), np.float32)
    for row, tensor in zip(values, tensors, strict=True):
        initial = np.float32(tensor.initial == "one")
        scale = np.float32(float(scales[tensor.group]) * factor(tensor))
        row[:] = [initial - scale, initial, initial + scale]
        if own_dtype:
            row[:] = RawTensor.rounded(row, tensor.dtype).float32()
    return Segments(
        np.array([tensor.start for tensor in tensors], np.int64),
        np.array([tensor.size for tensor in tensors], np.int64),
        values,
        np.array([write(tensor) for tensor in tensors], np.bool_),
    )
