"""Corpus to batch: a mapped text, shuffled blocks, one native call; and through a DataLoader."""

import time

import numpy as np
import pytest
import torch

from metro_fast.data import CorpusLoader, DataCollatorForSpanCorruption, TokenCorpus, write_corpus
from metro_fast.ops import corrupt_spans

ROWS, LENGTH, BATCHES = 512, 568, 20
SPAN = {"sentinel_first": 32_099, "eos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    ids = np.random.default_rng(0).integers(2, 31_000, ROWS * BATCHES * LENGTH)
    write_corpus(folder, [ids])
    return folder


def make(folder):
    collator = DataCollatorForSpanCorruption(num_threads=1, **SPAN)
    collator.set_epoch(0)
    return TokenCorpus(folder, block_size=LENGTH, collator=collator, shuffle=True)


@pytest.mark.benchmark(group="corpus to batch, 512 x 568")
def test_corpus_to_batch(benchmark, folder):
    """Everything that a step needs: order, text, corruption, masks and tensors."""
    corpus = make(folder)
    indices = np.arange(ROWS)
    benchmark(corpus.__getitems__, indices)


@pytest.mark.benchmark(group="corpus to batch, 512 x 568")
def test_kernel_alone(benchmark):
    """The same outputs from an array in memory, into existing arrays."""
    ids = np.random.default_rng(0).integers(2, 31_000, (ROWS, LENGTH)).astype(np.uint16)
    first = corrupt_spans(ids, attention_mask=True)
    out = (first.input_ids, first.labels, first.attention_mask)
    benchmark(corrupt_spans, ids, attention_mask=True, out=out, num_threads=1)


@pytest.mark.benchmark(group="an epoch of 20 batches through a loader")
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_loader(benchmark, folder, workers):
    """Workers pay for moving 5 MB per batch between processes."""

    def epoch():
        options = {"num_workers": workers, "epochs": 1}
        for _ in CorpusLoader(make(folder), batch_size=ROWS, **options):
            pass

    benchmark.pedantic(epoch, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="the loader's share of a step")
def test_share_of_a_training_step(benchmark, folder):
    """A T5 of width 128 on this CPU, 16 rows per step, batches made between steps."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape = {"d_model": 128, "d_ff": 256, "d_kv": 32, "num_layers": 2, "num_heads": 4}
    config = T5Config(vocab_size=32_128, decoder_start_token_id=0, **shape)
    model = T5ForConditionalGeneration(config)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loader = iter(CorpusLoader(make(folder), batch_size=16))
    seconds = {"loading": 0.0, "training": 0.0}

    def step():
        start = time.perf_counter()
        batch = next(loader)
        loaded = time.perf_counter()
        names = ("input_ids", "attention_mask", "labels")
        model(**{name: batch[name] for name in names}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds["loading"] += loaded - start
        seconds["training"] += time.perf_counter() - loaded

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    share = seconds["loading"] / (seconds["loading"] + seconds["training"])
    benchmark.extra_info["loader_share"] = round(share, 5)
