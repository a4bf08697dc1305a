"""sample_replacements, 64 rows of 32,128 logits, against common code in torch."""

import pytest
import torch

from metro_fast.ops import sample_replacements

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, VOCABULARY = 64, 32_128
LOGITS = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.benchmark(group="sample_replacements 64 x 32128")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_ours(benchmark, dtype):
    benchmark(sample_replacements, LOGITS.to(dtype), num_threads=1)


@pytest.mark.benchmark(group="sample_replacements 64 x 32128")
def test_softmax_multinomial(benchmark):
    benchmark.pedantic(lambda: torch.multinomial(LOGITS.softmax(-1), 1), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="sample_replacements 64 x 32128")
def test_gumbel_argmax(benchmark):
    benchmark.pedantic(
        lambda: (LOGITS - torch.rand_like(LOGITS).log().neg().log()).argmax(-1),
        rounds=5,
        warmup_rounds=1,
    )


@pytest.mark.benchmark(group="sample_replacements 64 x 32128")
def test_exp_cumsum_searchsorted(benchmark):
    def draw():
        sums = (LOGITS - LOGITS.amax(-1, keepdim=True)).exp_().cumsum_(-1)
        return torch.searchsorted(sums, torch.rand(ROWS, 1) * sums[:, -1:])

    benchmark(draw)


@pytest.mark.benchmark(group="sample_replacements 64 x 32128")
def test_one_read_of_the_logits(benchmark):
    """The limit: the maximum, which reads every logit once."""
    benchmark(LOGITS.amax, -1)
