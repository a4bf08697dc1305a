"""The tensors of an expert, described one by one."""

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.file.manifest import Manifest


class TensorRow(TypedDict):
    """One tensor of an expert.

    Attributes:
        tensor: Its name.
        group: The name of its group, or `"dense"`.
        dtype: Its dtype, as safetensors names it.
        shape: Its shape.
        density: Share of entries that are not zero.
        scale: The scale of its group; 1 for a dense tensor.
        bits: What an ideal coder would need per parameter at that density, `entropy(density)`; for
            a dense tensor the width of its dtype.
    """

    tensor: str
    group: str
    dtype: str
    shape: list[int]
    density: float
    scale: float
    bits: float


def describe_tensors(
    manifest: Manifest,
    scales: NDArray[np.float32],
    trits: Mapping[str, NDArray[np.int8]],
    dense: Mapping[str, RawTensor],
) -> list[TensorRow]:
    """Describe the ternary tensors of an expert, then its dense ones.

    Args:
        manifest: The manifest of the expert.
        scales: float32 [groups].
        trits: Trits of each ternary tensor.
        dense: The tensors that are kept whole.
    """
    rows: list[TensorRow] = []
    for tensor in manifest.tensors:
        density = int(np.count_nonzero(trits[tensor.name])) / max(1, tensor.size)
        rows.append(
            {
                "tensor": tensor.name,
                "group": manifest.groups[tensor.group].name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "density": density,
                "scale": float(scales[tensor.group]),
                "bits": entropy(density),
            }
        )
    for name, whole in dense.items():
        rows.append(
            {
                "tensor": name,
                "group": "dense",
                "dtype": whole.dtype,
                "shape": list(whole.shape),
                "density": int(np.count_nonzero(whole.data)) / max(1, whole.data.size),
                "scale": 1.0,
                "bits": 8.0 * whole.data.itemsize,
            }
        )
    return rows


def entropy(density: float) -> float:
    """Bits of a trit that is not zero with this probability and has an even sign: H(p) + p.

    Example:
        >>> round(entropy(0.05), 4)
        0.3364
    """
    if density in (0.0, 1.0):
        return density
    rest = 1 - density
    return density - density * math.log2(density) - rest * math.log2(rest)
