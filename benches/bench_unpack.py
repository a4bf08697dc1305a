"""ops.unpack of 16 M trits to float16, against one memcpy of its output in the same run.

Run: `pytest benches/bench_unpack.py --benchmark-enable`.
"""

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.testing.strategies import random_trits

COUNT = 16_000_000


@pytest.mark.benchmark(group="unpack 16 M to float16")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_ours(benchmark, density, coding, threads):
    packed = ops.pack(random_trits(COUNT, density, 0), coding=coding)
    out = np.zeros(COUNT, np.float16)
    benchmark(lambda: ops.unpack(packed, COUNT, scale=0.01, out=out, num_threads=threads))


@pytest.mark.benchmark(group="unpack 16 M to float16")
def test_copy_of_the_output(benchmark):
    """The limit: nobody can be faster than writing the result."""
    source, out = np.ones(COUNT, np.float16), np.zeros(COUNT, np.float16)
    benchmark(np.copyto, out, source)
