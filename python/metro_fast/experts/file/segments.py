"""The values that the trits of each tensor stand for, in the form that the decoder takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.adapters.initial import constant_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.file.manifest import Manifest, TernaryTensor

NATIVE: dict[str, tuple[str, Any]] = {
    "F32": ("f32", np.float32),
    "F16": ("f16", np.uint16),
    "BF16": ("bf16", np.uint16),
}
"""For each dtype of safetensors its name in the native module, and the type that is written."""


class Segments(NamedTuple):
    """One row per ternary tensor, in the manifest's order.

    Attributes:
        starts: int64 [n], the first trit of each.
        lengths: int64 [n], the number of trits.
        values: float32 [n, 3], the values of trits -1, 0 and +1.
        write: bool [n], whether it is decoded.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[np.float32]
    write: NDArray[np.bool_]

    def __repr__(self) -> str:
        trits, chosen = int(self.lengths.sum()), int(self.write.sum())
        return f"Segments({trits:,} trits of {len(self.starts)} tensors, {chosen} decoded)"

    def expand(
        self, block: NDArray[np.uint8], dtype: str, out: NDArray[Any], num_threads: int
    ) -> None:
        """Decode a packed block into `out`, which has one element per trit.

        Args:
            block: uint8, the packed block.
            dtype: Its name in safetensors; `out` has float32 elements, or uint16 for 16-bit dtypes.
            out: The array to write to.
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
        manifest: The manifest of the expert.
        scales: float32 [groups].
        write: Which tensors are decoded.
        factor: The factor of each tensor's update.
        own_dtype: Whether to round the values to the dtype of the tensor first, as a file of that
            dtype would.

    Example:
        >>> from metro_fast.experts import compress
        >>> expert = compress({"m.ia3_l": np.float32([1.5, 1.0])}, density=0.5)
        >>> segments_of(expert.manifest, np.float32([0.5])).values.tolist()
        [[0.5, 1.0, 1.5]]
    """
    tensors = manifest.tensors
    values = np.empty((len(tensors), 3), np.float32)
    for row, tensor in zip(values, tensors, strict=True):
        initial = constant_of(tensor.initial)
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
