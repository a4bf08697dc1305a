"""ops.pack of 16 M trits: time, and size over Shannon's bound.

Run: `pytest benches/bench_pack.py --benchmark-enable`. `extra_info` holds the bits per parameter.
"""

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.experts.file.describe import entropy
from metro_fast.testing.strategies import random_trits

COUNT = 16_000_000


@pytest.mark.benchmark(group="pack 16 M")
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_ours(benchmark, simd, density, coding, level):
    trits = random_trits(COUNT, density, 0)
    simd(level)
    packed = benchmark(lambda: ops.pack(trits, coding=coding, num_threads=1))
    bits = 8 * packed.nbytes / COUNT
    benchmark.extra_info |= {"bits": bits, "over_shannon": bits / entropy(density)}


@pytest.mark.benchmark(group="pack 16 M")
def test_two_threads(benchmark):
    trits = random_trits(COUNT, 0.2, 0)
    benchmark(lambda: ops.pack(trits, num_threads=2))


@pytest.mark.benchmark(group="pack 16 M")
def test_one_read_of_the_trits(benchmark):
    """The limit: a pass that reads every trit once."""
    benchmark(np.count_nonzero, random_trits(COUNT, 0.2, 0))
