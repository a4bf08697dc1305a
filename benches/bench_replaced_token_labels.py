"""replaced_token_labels, 512 rows of 512 ids with 15 % masked, against numpy and torch.

Run: `pytest benches/bench_replaced_token_labels.py --benchmark-enable`.
"""

import numpy as np
import pytest
import torch

from metro_fast.ops import mask_tokens, replaced_token_labels
from metro_fast.testing.replaced_token_labels import replaced_token_labels as reference

ROWS, LENGTH, SIZE = 512, 512, 32_100
RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(4, 31_000, (ROWS, LENGTH))
POSITIONS = mask_tokens(IDS, mask_token_id=3, vocab_size=SIZE).masked_positions
SAMPLED = RANDOM.integers(4, 31_000, POSITIONS.size)


@pytest.mark.benchmark(group="replaced_token_labels 512 x 512")
@pytest.mark.parametrize("threads", [1, 2])
def test_ours(benchmark, threads):
    out = np.empty_like(IDS), np.empty(IDS.shape, np.int8)
    benchmark(replaced_token_labels, IDS, SAMPLED, POSITIONS, out=out, num_threads=threads)


@pytest.mark.benchmark(group="replaced_token_labels 512 x 512")
def test_numpy(benchmark):
    benchmark(reference, IDS, SAMPLED, POSITIONS)


@pytest.mark.benchmark(group="replaced_token_labels 512 x 512")
def test_torch_scatter(benchmark):
    ids, positions, sampled = map(torch.from_numpy, (IDS, POSITIONS, SAMPLED))

    def labels():
        replaced = ids.flatten().scatter(0, positions, sampled).view_as(ids)
        return replaced, replaced != ids

    benchmark(labels)


@pytest.mark.benchmark(group="replaced_token_labels 512 x 512")
def test_copy_of_the_output(benchmark):
    """The limit: the ids and one byte per label."""
    out = np.empty_like(IDS), np.empty(IDS.shape, np.int8)
    source = np.zeros(IDS.shape, np.int8)

    def copy():
        np.copyto(out[0], IDS)
        np.copyto(out[1], source)

    benchmark(copy)
