"""ops.ternarize of 16 M floats, against common code in torch: kthvalue, std, sign.

Run: `pytest benches/bench_ternarize.py --benchmark-enable`.
"""

import numpy as np
import pytest
import torch

from metro_fast import ops

COUNT = 16_000_000
DENSITY = 0.2
VALUES = np.random.default_rng(0).standard_normal(COUNT, np.float32)


@pytest.mark.benchmark(group="ternarize 16 M")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("density", [0.05, DENSITY, 0.5])
def test_ours(benchmark, density, threads):
    benchmark(lambda: ops.ternarize(VALUES, density=density, num_threads=threads))


@pytest.mark.benchmark(group="ternarize 16 M")
@pytest.mark.parametrize("threads", [1, 2])
def test_torch_kthvalue(benchmark, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    values = torch.from_numpy(VALUES)

    def ternarize():
        magnitude = values.abs()
        threshold = magnitude.kthvalue(COUNT - int(COUNT * DENSITY)).values
        return torch.where(magnitude > threshold, values.sign(), 0.0) * values.std()

    benchmark.pedantic(ternarize, rounds=3, warmup_rounds=1)
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="ternarize 16 M")
def test_one_read_of_the_values(benchmark):
    """The limit: a pass that reads every value once."""
    benchmark(VALUES.max)
