"""The cost of a call through torch's dispatcher: each op against the function that it calls.

The inputs are so small that the call is all there is. torch.compile pays the same at each run.
"""

import numpy as np
import pytest
import torch

from metro_fast import ops
from metro_fast.ops import torch as registered

LOGITS = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
SEED_EPOCH = torch.tensor([3, 4])
ORIGINAL = torch.arange(4, 20).reshape(2, 8)
SAMPLED, MASKED = torch.tensor([5, 6]), torch.tensor([1, 9])
PACKED = ops.pack(torch.from_numpy(np.arange(64, dtype=np.int8) % 3 - 1))
OUT = torch.empty(64)


@pytest.mark.benchmark(group="call of sample_replacements, 2 x 8")
def test_sample_replacements_function(benchmark):
    benchmark(lambda: ops.sample_replacements(LOGITS, seed=3, epoch=4))


@pytest.mark.benchmark(group="call of sample_replacements, 2 x 8")
def test_sample_replacements_registered(benchmark):
    benchmark(lambda: registered.sample_replacements(LOGITS, SEED_EPOCH))


@pytest.mark.benchmark(group="call of replaced_token_labels, 16 tokens")
def test_replaced_token_labels_function(benchmark):
    benchmark(lambda: ops.replaced_token_labels(ORIGINAL, SAMPLED, MASKED))


@pytest.mark.benchmark(group="call of replaced_token_labels, 16 tokens")
def test_replaced_token_labels_registered(benchmark):
    benchmark(lambda: registered.replaced_token_labels(ORIGINAL, SAMPLED, MASKED, 0))


@pytest.mark.benchmark(group="call of unpack, 64 trits")
def test_unpack_function(benchmark):
    benchmark(lambda: ops.unpack(PACKED, 64, scale=0.5, out=OUT))


@pytest.mark.benchmark(group="call of unpack, 64 trits")
def test_unpack_registered(benchmark):
    benchmark(lambda: registered.unpack_out(PACKED, 0.5, OUT))


@pytest.mark.benchmark(group="call of an op of torch, 2 x 8")
def test_amax(benchmark):
    """The limit: one of torch's own ops."""
    benchmark(lambda: LOGITS.amax(-1))
