"""The arrays that a native call writes: the caller's, or new ones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast.ops.arrays import Array, refuse_shared, view, writable

_TYPES: dict[str, type[np.generic]] = {"int64": np.int64, "int32": np.int32}
_NAMES = ("input_ids", "labels", "attention_mask", "decoder_input_ids")


class Outputs(NamedTuple):
    """What is to be written, as the native module reads it.

    Attributes:
        dtype: "int64" or "int32", of all of them.
        input_ids: The caller's array [B, Li], or None for a new one; so the next three.
        labels: [B, Ll].
        attention_mask: [B, Li].
        decoder_input_ids: [B, Ll].
        with_attention_mask: Make one where none is given.
        with_decoder_input_ids: Make them where none are given.
        input_width: Width of new inputs; 0 for the longest row's.
        label_width: The same of the labels.
        multiple: What the widths of new arrays are rounded up to.
    """

    dtype: str
    input_ids: npt.NDArray[Any] | None = None
    labels: npt.NDArray[Any] | None = None
    attention_mask: npt.NDArray[Any] | None = None
    decoder_input_ids: npt.NDArray[Any] | None = None
    with_attention_mask: bool = False
    with_decoder_input_ids: bool = False
    input_width: int = 0
    label_width: int = 0
    multiple: int = 1

    @classmethod
    def read(
        cls,
        out: Sequence[Array | None] | None,
        dtype: npt.DTypeLike,
        inputs: Mapping[str, object],
        attention_mask: bool = False,
        decoder_input_ids: bool = False,
        widths: tuple[int | None, int | None] = (None, None),
        multiple: int = 1,
        most: int = 4,
    ) -> "Outputs":
        """Check what the caller gave.

        Args:
            out: 2 to `most` arrays; the first two must be there.
            dtype: Of new arrays; given ones have one of their own.
            inputs: What is read, by the name of its argument.
            attention_mask: Make one where none is given.
            decoder_input_ids: The same.
            widths: Of new inputs and labels; None for the longest row's.
            multiple: What the widths of new arrays are rounded up to.
            most: Arrays that `out` may hold.

        Raises:
            TypeError: If it is not such a sequence, or an array cannot be written.
            MetroFastError: If arrays share memory with each other or with what is read.
        """
        if out is None:
            wide = (widths[0] or 0, widths[1] or 0, multiple)
            wanted = (attention_mask, decoder_input_ids)
            return cls(_name(dtype), None, None, None, None, *wanted, *wide)
        absent = isinstance(out, tuple | list) and any(array is None for array in out[:2])
        if not isinstance(out, tuple | list) or not 2 <= len(out) <= most or absent:
            expected = f"({', '.join(_NAMES[:most])}), the first two of them not None"
            raise TypeError(f"out is not a tuple of 2 to {most} arrays, expected {expected}")
        name = _name(view("out[0]", out[0]).dtype)
        arrays = [
            None if array is None else writable(f"out[{place}]", array, _TYPES[name], 2)
            for place, array in enumerate(out)
        ]
        refuse_shared({f"out[{place}]": array for place, array in enumerate(arrays)}, inputs)
        input_ids, labels, mask, decoder = [*arrays, None, None][:4]
        return cls(name, input_ids, labels, mask, decoder, attention_mask, decoder_input_ids)


def _name(dtype: npt.DTypeLike) -> str:
    name = np.dtype(dtype).name
    if name not in _TYPES:
        raise TypeError(f"the output has dtype {name}, expected int64 or int32")
    return name
