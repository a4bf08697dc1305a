"""ops.pack and ops.unpack: time per call, and size over Shannon's bound.

Run: `pytest benches/bench_pack.py --benchmark-enable`. `extra_info` holds bits per parameter and
the time of one memcpy of the decoder's output, in the same run.
"""

import time

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.experts.expert import entropy

COUNT = 16_000_000


def trits(density: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2, COUNT, np.int8) * 2 - 1
    return np.where(rng.random(COUNT, np.float32) < density, signs, np.int8(0))


def memcpy_seconds(array: np.ndarray) -> float:
    source = np.ones_like(array)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(array, source)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_pack(benchmark, density, threads):
    x = trits(density)
    packed = benchmark(lambda: ops.pack(x, num_threads=threads))
    bits = 8 * packed.nbytes / COUNT
    benchmark.extra_info |= {"bits": bits, "over_shannon": bits / entropy(density)}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_unpack_to_half(benchmark, density, coding, threads):
    packed = ops.pack(trits(density), coding=coding)
    out = np.zeros(COUNT, np.float16)
    benchmark.extra_info["memcpy_seconds"] = memcpy_seconds(out)
    benchmark(lambda: ops.unpack(packed, COUNT, scale=0.01, out=out, num_threads=threads))
