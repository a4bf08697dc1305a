"""Batches do not depend on workers (none, forked, spawned, persistent), which learn the epoch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    EpochCallback,
    TokenCorpus,
    write_corpus,
)
from metro_fast.ops.draws import resolve_threads

PERSISTENT = {"persistent_workers": True, "prefetch_factor": 4}
WORKERS = [
    pytest.param({"num_workers": 2}, id="forked"),
    pytest.param({"num_workers": 2, **PERSISTENT}, id="persistent"),
    pytest.param(
        {"num_workers": 1, "multiprocessing_context": "spawn", **PERSISTENT},
        id="spawned",
        marks=pytest.mark.slow,  # A spawned worker imports torch.
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [np.random.default_rng(0).integers(4, 500, 601)])
    return folder


def make(objective):
    if objective == "span":
        return DataCollatorForSpanCorruption(sentinel_first=999, eos_token_id=1, pad_token_id=0)
    return DataCollatorForMetro(mask_token_id=3, vocab_size=1000, pad_token_id=0)


def epochs(folder, objective, count, in_dataset, **options):
    """The batches of `count` epochs, in a fixed shuffled order."""
    collator = make(objective)
    corpus = TokenCorpus(folder, block_size=50, collator=collator if in_dataset else None)
    order = np.random.default_rng(1).permutation(len(corpus)).tolist()
    loader = DataLoader(corpus, batch_size=4, sampler=order, collate_fn=collator, **options)
    batches = []
    for epoch in range(count):
        corpus.set_epoch(epoch)
        collator.set_epoch(epoch)
        batches.append(list(loader))
    return batches


def equal(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(x[key].equal(y[key]) for key in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("options", WORKERS)
@pytest.mark.parametrize("objective", ["span", "metro"])
def test_workers_change_nothing_and_epochs_differ(folder, objective, options):
    expected = epochs(folder, objective, 3, in_dataset=False)
    assert equal(expected[0], epochs(folder, objective, 1, in_dataset=True)[0])
    actual = epochs(folder, objective, 3, in_dataset=True, **options)
    for epoch in range(3):
        assert equal(actual[epoch], expected[epoch])
        assert {int(batch["epoch"]) for batch in actual[epoch]} == {epoch}
    for epoch in (1, 2):
        assert not equal(actual[epoch], actual[0])


def test_a_forked_worker_does_not_hang_on_threads_that_its_parent_used(folder):
    collator = DataCollatorForMetro(mask_token_id=3, vocab_size=1000, pad_token_id=0, num_threads=2)
    corpus = TokenCorpus(folder, block_size=50, collator=collator)
    corpus.set_epoch(0)
    here = collator(corpus.__getitems__(range(8)))
    [there] = DataLoader(
        corpus, batch_sampler=[list(range(8))], collate_fn=collator, num_workers=1, timeout=30
    )
    assert all(torch.equal(here[key], there[key]) for key in here)


class Threads(torch.utils.data.Dataset):
    """Each row is the number of threads that a large call would take by default."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return resolve_threads(None, 1 << 40, 1)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_takes_one_thread_by_default(start, monkeypatch):
    monkeypatch.delenv("METRO_FAST_NUM_THREADS", raising=False)
    loader = {"num_workers": 1, "multiprocessing_context": start}
    assert next(iter(DataLoader(Threads(), 2, **loader))).tolist() == [1, 1]
    monkeypatch.setenv("METRO_FAST_NUM_THREADS", "3")
    assert resolve_threads(None, 1 << 40, 1) == 3


@pytest.mark.parametrize("in_dataset", [True, False])
def test_a_stock_trainer_gets_other_draws_in_every_epoch(folder, tmp_path, in_dataset):
    from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments

    collator = make("span")
    mine = collator if in_dataset else None
    corpus = TokenCorpus(folder, block_size=100, collator=mine, drop_last=True)
    shape = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=1000, decoder_start_token_id=0, **shape))
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, batch: seen.append(batch["input_ids"].clone()), with_kwargs=True
    )
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        # The default would remove the sample ids from the items; it keeps a finished batch whole.
        remove_unused_columns=in_dataset,
    )
    callbacks = [] if in_dataset else [EpochCallback(collator)]
    trainer = Trainer(model, arguments, collator, corpus, callbacks=callbacks)
    trainer.train()
    assert len(seen) == 3
    rows = [{tuple(row) for row in ids.tolist()} for ids in seen]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert not rows[first] & rows[second], "the six blocks come in each epoch, never alike"
