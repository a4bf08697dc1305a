"""sample_replacements, 256 rows of 32,128 logits, against common code in torch and one read."""

import numpy as np
import pytest
import torch

from metro_fast.ops import sample_replacements

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, VOCABULARY = 256, 32_128
WIDE = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3
BRAIN = WIDE.bfloat16()
LEVELS = ["scalar", "avx2", "avx512"]
SENTINELS = list(range(32_000, 32_128))
GROUP = pytest.mark.benchmark(group="sample_replacements 256 x 32128")


@GROUP
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16], ids=str)
def test_ours(benchmark, dtype, level, simd):
    simd(level)
    benchmark(sample_replacements, WIDE.to(dtype), num_threads=1)


@GROUP
@pytest.mark.parametrize(
    "limits",
    [{"forbidden": SENTINELS, "excluded": np.arange(ROWS)}, {"top_k": 50}],
    ids=["forbidden and excluded", "top 50"],
)
def test_limits(benchmark, limits):
    benchmark(sample_replacements, BRAIN, num_threads=1, **limits)


@GROUP
@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark, threads):
    benchmark(sample_replacements, BRAIN, num_threads=threads)


@GROUP
@pytest.mark.parametrize("logits", [BRAIN, WIDE], ids=["bfloat16", "float32"])
def test_softmax_multinomial(benchmark, logits):
    """The two calls of METRO-T0 and of ELECTRA's ports."""
    benchmark.pedantic(
        lambda: torch.multinomial(logits.float().softmax(-1), 1), rounds=5, warmup_rounds=1
    )


@GROUP
def test_gumbel_argmax(benchmark):
    benchmark.pedantic(
        lambda: (WIDE - torch.rand_like(WIDE).log().neg().log()).argmax(-1),
        rounds=5,
        warmup_rounds=1,
    )


@GROUP
def test_exp_cumsum_searchsorted(benchmark):
    """The leanest code in torch; its sums in float32 are not exact."""

    def draw():
        wide = BRAIN.float()
        sums = wide.sub_(wide.amax(-1, keepdim=True)).exp_().cumsum_(-1)
        return torch.searchsorted(sums, torch.rand(ROWS, 1) * sums[:, -1:])

    benchmark.pedantic(draw, rounds=9, warmup_rounds=1)


@GROUP
def test_one_read_of_the_logits(benchmark):
    """The limit: a sum of the bits of the bfloat16 logits, eight bytes at a time."""
    words = BRAIN.view(torch.int16).numpy().view(np.int64)
    benchmark(words.sum)
