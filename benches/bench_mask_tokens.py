"""mask_tokens, 512 rows of 512 ids, against numpy and the collator of transformers."""

import numpy as np
import pytest
import torch

from metro_fast.data import DataCollatorForMetro, train_tokenizer
from metro_fast.ops import mask_tokens

KINDS = (np.array, torch.tensor, np.ndarray.tolist)
ROWS, LENGTH, SIZE = 512, 512, 32_100
IDS = np.random.default_rng(0).integers(4, 31_000, (ROWS, LENGTH))
OPTIONS = {
    "mask_token_id": 3,
    "vocab_size": SIZE,
    "special_token_ids": [0, 1, 2, 3, *range(32_000, SIZE)],
}


@pytest.fixture
def out():
    return np.empty_like(IDS), np.empty_like(IDS)


@pytest.mark.benchmark(group="mask_tokens 512 x 512")
@pytest.mark.parametrize("threads", [1, 2])
def test_ours(benchmark, out, threads):
    benchmark(mask_tokens, IDS, out=out, num_threads=threads, **OPTIONS)


@pytest.mark.benchmark(group="mask_tokens 512 x 512")
def test_numpy_whole_batch(benchmark):
    """The mask step of the common collators, in numpy (np_mask_tokens): independent draws."""
    random = np.random.default_rng(0)
    special = np.isin(np.arange(SIZE), OPTIONS["special_token_ids"])

    def batch():
        inputs, labels = IDS.copy(), IDS.copy()
        masked = (random.random(IDS.shape) < 0.15) & ~special[IDS]
        labels[~masked] = -100
        replaced = (random.random(IDS.shape) < 0.8) & masked
        inputs[replaced] = 3
        random_ones = (random.random(IDS.shape) < 0.5) & masked & ~replaced
        words = random.integers(0, SIZE, IDS.shape)
        inputs[random_ones] = words[random_ones]
        return inputs, labels

    benchmark(batch)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a few words", "words a few"], vocab_size=60, num_sentinels=8)


def features(tokenizer, kind):
    ids = IDS % (len(tokenizer) - 12) + 4
    return [{"input_ids": kind(row), "sample_id": i} for i, row in enumerate(ids)]


@pytest.mark.benchmark(group="METRO collator 512 x 512")
@pytest.mark.parametrize(
    "kind", [np.array, torch.tensor, np.ndarray.tolist], ids=lambda k: k.__name__
)
def test_our_collator(benchmark, tokenizer, kind):
    collator = DataCollatorForMetro(tokenizer, num_threads=1)
    collator.set_epoch(0)
    benchmark(collator, features(tokenizer, kind))


@pytest.mark.benchmark(group="METRO collator 512 x 512")
@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.__name__)
def test_transformers_collator(benchmark, tokenizer, kind):
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    rows = [{"input_ids": row["input_ids"]} for row in features(tokenizer, kind)]
    benchmark.pedantic(collator, args=(rows,), rounds=3, warmup_rounds=1)
