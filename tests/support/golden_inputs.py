"""The inputs of ComPEFT's golden values, by the recipe that their file states."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def golden_input(vector: dict[str, Any]) -> NDArray[np.float32]:
    """float32 [n]; for the kind "bf16", values that bfloat16 can represent."""
    rng = np.random.Generator(np.random.PCG64(vector["seed"]))
    n, kind = vector["n"], vector["kind"]
    if kind == "student_t":
        return (rng.standard_t(4, n) * 2e-3 + 1e-4).astype(np.float32)
    if kind == "rounded":
        return np.round(rng.standard_normal(n) * 8).astype(np.float32) / 8
    x = (rng.standard_normal(n) * 2e-3).astype(np.float32)
    if kind == "zeros":
        x[rng.random(n) < 0.35] = 0.0
    if kind == "bf16":
        bits = x.view(np.uint32)
        x = (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).view(np.float32)
    return x
