"""The arrays that a native call writes: the caller's, or new ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from metro_fast._dtype_name import dtype_name
from metro_fast._shown import shown
from metro_fast.ops.arrays import Array, give, refuse_shared, view, writable

_TYPES: dict[str, type[np.generic]] = {"int64": np.int64, "int32": np.int32}
_NAMES = ("input_ids", "labels", "attention_mask", "decoder_input_ids")


class Outputs(NamedTuple):
    """The arrays to write, as the native module reads them.

    Attributes:
        dtype: "int64" or "int32", for all of them.
        input_ids: The caller's array [B, Li], or None for a new one.
        labels: The same for the labels, [B, Ll].
        attention_mask: The same for the attention mask, [B, Li].
        decoder_input_ids: The same for the inputs of the decoder, [B, Ll].
        with_attention_mask: Whether to make an attention mask if the caller gave none.
        with_decoder_input_ids: Whether to make decoder inputs if the caller gave none.
        input_width: Width of new inputs; 0 for that of the longest row.
        label_width: The same for labels.
        multiple: Widths of new arrays are rounded up to a multiple of this.
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
        """Check the caller's arrays.

        Args:
            out: 2 to `most` arrays, of which the first two must not be None.
            dtype: Type of new arrays; arrays of the caller keep their own.
            inputs: The arrays that the call reads, by the names of their arguments.
            attention_mask: Whether to make an attention mask if the caller gave none.
            decoder_input_ids: The same for the inputs of the decoder.
            widths: Widths of new inputs and labels; None for that of the longest row.
            multiple: Widths of new arrays are rounded up to a multiple of this.
            most: Largest number of arrays in `out`.

        Raises:
            TypeError: If `out` is not such a sequence, an array cannot be written, or
                `attention_mask` is a mask.
            MetroFastError: If arrays share memory with each other or with an input.
        """
        if not isinstance(attention_mask, bool | np.bool_):
            raise TypeError(
                f"attention_mask is a {type(attention_mask).__name__}, expected True or False, "
                "whether to make one: leave padding out of ids and give offsets, or let a collator "
                "read the mask"
            )
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
    name = dtype_name(dtype, "int64 or int32")
    if name not in _TYPES:
        raise TypeError(f"the output has dtype {shown(name)}, expected int64 or int32")
    return name


_Batch = TypeVar("_Batch", bound=NamedTuple)


def finish(
    kind: Callable[..., _Batch],
    arrays: Sequence[Any],
    tensor: bool,
    out: Sequence[Array | None] | None = None,
) -> _Batch:
    """The batch of a native call, in the caller's kind of array, with the caller's own arrays.

    Args:
        kind: Class of the batch.
        arrays: Its arrays in the order of its fields; None for those that were not asked for.
        tensor: Whether the caller uses tensors.
        out: Arrays of the caller that hold the result.
    """
    batch = kind(*(None if array is None else give(array, tensor=tensor) for array in arrays))
    named = zip(_NAMES, out or (), strict=False)
    return batch._replace(**{name: array for name, array in named if array is not None})
