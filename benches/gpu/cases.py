"""Inputs of the checks and timings, made again in each run."""

import numpy as np
import torch

from metro_fast.ops import pack


def trits(count: int, density: float, seed: int) -> np.ndarray:
    """int8, each nonzero with this probability; beyond 2^24 the random values repeat."""
    random = np.random.default_rng([seed, count])
    part = min(count, 1 << 24)
    kept = random.random(part, np.float32) < density
    signs = 2 * random.integers(0, 2, part, np.int8) - 1
    values = np.where(kept, signs, 0).astype(np.int8)
    return np.resize(values, count)


def block(values: np.ndarray, coding: str, steps: int | None = None) -> torch.Tensor:
    """The packed block."""
    return torch.from_numpy(np.asarray(pack(values, coding=coding, steps=steps)))


def steps_for(count: int) -> int:
    """S for a GPU: one warp decodes one stream, so that many streams are needed."""
    return 512 if count < 8_000_000 else 2048
