"""mask_tokens, 512 rows of 512 ids, against numpy and the collator of transformers."""

import numpy as np
import pytest
import torch

from metro_fast.data import DataCollatorForMetro, train_tokenizer
from metro_fast.ops import Vocabulary, mask_tokens

KINDS = (np.array, torch.tensor, np.ndarray.tolist)
ROWS, LENGTH, SIZE = 512, 512, 32_100
IDS = np.random.default_rng(0).integers(4, 31_000, (ROWS, LENGTH))
OPTIONS = {
    "mask_token_id": 3,
    "vocab_size": SIZE,
    "special_token_ids": [0, 1, 2, 3, *range(32_000, SIZE)],
}
GROUP = "mask_tokens 512 x 512"


@pytest.fixture
def out():
    return np.empty_like(IDS), np.empty_like(IDS)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", ["int64", "uint16"])
def test_ours(benchmark, out, level, dtype, simd):
    simd(level)
    benchmark(mask_tokens, IDS.astype(dtype), out=out, num_threads=1, **OPTIONS)


@pytest.mark.benchmark(group=GROUP)
def test_ours_on_two_threads(benchmark, out):
    benchmark(mask_tokens, IDS, out=out, num_threads=2, **OPTIONS)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_ours_by_whole_words(benchmark, out, level, simd):
    """Two of three ids start a word."""
    simd(level)
    vocabulary = Vocabulary(**OPTIONS, word_starts=np.arange(SIZE) % 3 != 0)
    benchmark(mask_tokens, IDS, out=out, num_threads=1, vocabulary=vocabulary)


@pytest.mark.benchmark(group=GROUP)
def test_copy_of_the_output(benchmark, out):
    """The limit: no method is faster than writing the result."""
    benchmark(lambda: [np.copyto(target, IDS) for target in out])


@pytest.mark.benchmark(group=GROUP)
def test_numpy_whole_batch(benchmark):
    """The mask step of the common collators in its simplest form: independent draws."""
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


@pytest.mark.benchmark(group=GROUP)
def test_transformers_numpy_mask_tokens(benchmark, tokenizer):
    """Only this step of the installed transformers: no padding, special tokens given."""
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, return_tensors="np")
    special = np.isin(IDS, OPTIONS["special_token_ids"])
    benchmark(lambda: collator.numpy_mask_tokens(IDS.copy(), special_tokens_mask=special))


def features(tokenizer, kind):
    ids = IDS % (len(tokenizer) - 12) + 4
    return [{"input_ids": kind(row), "sample_id": i} for i, row in enumerate(ids)]


@pytest.mark.benchmark(group="METRO collator 512 x 512")
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_our_collator(benchmark, tokenizer, kind):
    collator = DataCollatorForMetro(tokenizer, num_threads=1)
    collator.set_epoch(0)
    benchmark(collator, features(tokenizer, kind))


@pytest.mark.benchmark(group="METRO collator 512 x 512")
def test_our_collator_of_columns(benchmark, tokenizer):
    collator = DataCollatorForMetro(tokenizer, num_threads=1)
    collator.set_epoch(0)
    ids = IDS % (len(tokenizer) - 12) + 4
    benchmark(collator, {"input_ids": ids, "sample_id": np.arange(ROWS)})


@pytest.mark.benchmark(group="METRO collator 512 x 512")
@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.__name__)
def test_transformers_collator(benchmark, tokenizer, kind):
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    rows = [{"input_ids": row["input_ids"]} for row in features(tokenizer, kind)]
    benchmark.pedantic(collator, args=(rows,), rounds=3, warmup_rounds=1)
