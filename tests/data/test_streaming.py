"""Streams: through the collators, and under the trainer, on one rank and on two."""

import gc
import io
import itertools
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    TokenCorpus,
    write_corpus,
)
from metro_fast.errors import MetroFastError

SUPPORT = Path(__file__).parents[1] / "support"

from log_lines import untimed
from metro_cases import MetroCollator, arguments, metro_model, one_step
from metro_fast._training.streams import stream_loader
from metro_fast.metro import MetroTrainer
from prepare_cases import environment
from streaming_cases import PlainStream, stream, train

BLOCK = 50


def make(objective):
    if objective == "span":
        return DataCollatorForSpanCorruption(sentinel_first=999, eos_token_id=1, pad_token_id=0)
    return DataCollatorForMetro(mask_token_id=3, vocab_size=1000, pad_token_id=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [np.random.default_rng(0).integers(4, 500, 600)])
    return TokenCorpus(folder, block_size=BLOCK)


def rows_of(batch):
    """Every row of a batch by its sample id."""
    keys = [key for key in batch if batch[key].ndim == 2]
    return {
        int(name): {key: batch[key][i].tolist() for key in keys}
        for i, name in enumerate(batch["sample_ids"])
    }


def seen(loader):
    rows = {}
    for batch in loader:
        new = rows_of(batch)
        assert not rows.keys() & new.keys()
        rows |= new
    return rows


def expected(corpus, objective):
    collator = make(objective)
    collator.set_epoch(2)
    return seen(DataLoader(corpus, batch_size=5, collate_fn=collator))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("objective", ["span", "metro"])
def test_a_stream_of_hugging_face_has_the_noise_of_the_corpus(corpus, objective, workers):
    data = Dataset.from_list([corpus[i] for i in range(len(corpus))]).to_iterable_dataset(4)
    collator = make(objective)
    collator.set_epoch(2)
    loader = DataLoader(data, batch_size=4, collate_fn=collator, num_workers=workers)
    assert seen(loader) == expected(corpus, objective)


@pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning"
)  # webdataset does not close its files
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("objective", ["span", "metro"])
def test_webdataset_has_the_noise_of_the_corpus(corpus, objective, workers, tmp_path):
    import webdataset

    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for i in range(shard, len(corpus), 2):
                ids = io.BytesIO()
                np.save(ids, corpus[i]["input_ids"])
                for name, content in (("ids.npy", ids.getvalue()), ("id.json", b"%d" % i)):
                    entry = tarfile.TarInfo(f"{i:06}.{name}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    urls = [str(tmp_path / f"{shard}.tar") for shard in range(2)]
    data = (
        webdataset.WebDataset(urls, shardshuffle=False)
        .decode()
        .rename(input_ids="ids.npy", sample_id="id.json")
    )
    collator = make(objective)
    collator.set_epoch(2)
    loader = DataLoader(data, batch_size=4, collate_fn=collator, num_workers=workers)
    assert seen(loader) == expected(corpus, objective)
    del data, loader
    gc.collect()  # while the warnings about its files are ignored


@pytest.mark.parametrize("workers", [0, 2])
def test_each_pass_has_its_epoch_and_a_resumed_run_continues(tmp_path, workers):
    """8 rows, 2 updates of 2 batches of 2 per pass; the save after 3 updates is within a pass."""
    options = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "dataloader_num_workers": workers,
    }
    unbroken = train(tmp_path, stream(2), **options)
    weights = {name: t.clone() for name, t in unbroken.model.state_dict().items()}
    if workers == 0:  # with workers the collator has seen nothing in this process
        assert [epoch for epoch, _ in unbroken.data_collator.seen] == [0] * 4 + [1] * 4 + [2] * 4
    (tmp_path / "checkpoint-6" / "metric_window.json").unlink()
    resumed = train(tmp_path, stream(2), resume=True, **options)
    assert resumed.state.global_step == 6
    assert all(torch.equal(weights[n], t) for n, t in resumed.model.state_dict().items())
    lines = [untimed(t.state.log_history) for t in (unbroken, resumed)]
    assert lines[0] == lines[1]


def test_persistent_workers_learn_the_pass(corpus, tmp_path):
    data = Dataset.from_list([corpus[i] for i in range(len(corpus))]).to_iterable_dataset(2)
    args = arguments(tmp_path, dataloader_num_workers=2, dataloader_persistent_workers=True)
    collator = make("metro")
    loader = stream_loader(data, args, collator, batch_size=3, ranks_with=int)
    # 12 rows, 6 per worker: 4 batches per pass, and not one more that would keep workers busy.
    batches = list(itertools.islice(loader, 12))
    assert [int(batch["epoch"]) for batch in batches] == [0] * 4 + [1] * 4 + [2] * 4
    passes = [dict(p for b in batches[i : i + 4] for p in rows_of(b).items()) for i in (0, 4, 8)]
    assert all(sorted(rows) == list(range(12)) for rows in passes)
    assert passes[0] != passes[1] != passes[2]
    collator = make("metro")
    collator.set_epoch(1)
    assert passes[1] == seen(DataLoader(corpus, batch_size=5, collate_fn=collator))


def test_a_stream_needs_max_steps_rows_and_ranks_that_read_for_themselves(tmp_path):
    def trainer(**options):
        return MetroTrainer(
            metro_model(),
            arguments(tmp_path, **options),
            train_dataset=PlainStream(options.pop("rows", 8)),
            data_collator=MetroCollator(),
        )

    with pytest.raises(MetroFastError, match="max_steps is -1, but train_dataset is a stream"):
        trainer(max_steps=-1)
    for name in ("dispatch_batches", "split_batches"):
        with pytest.raises(MetroFastError, match=f"accelerator_config has {name}=True"):
            trainer(accelerator_config={name: True})
    with pytest.raises(MetroFastError, match="pass 0 over the stream has no batch"):
        train(tmp_path, PlainStream(0))


def test_one_rank_has_the_gradient_of_the_rows(tmp_path):
    whole, _, line = one_step(tmp_path / "rows", 8, 1)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    for data in (stream(1), PlainStream()):
        trainer = train(tmp_path / "stream", data, **options)
        assert worst(whole, trainer.kept) <= 1e-5
        assert trainer.state.log_history[0]["loss"] == pytest.approx(line["loss"], rel=1e-5)


def worst(expected, found):
    """Largest over parameters of max|difference| / max|gradient|."""
    return max(
        ((expected[n] - found[n]).abs().max() / expected[n].abs().max()).item() for n in expected
    )


@pytest.mark.slow
def test_two_ranks_share_a_stream_and_make_one_update(tmp_path):
    """Slow: starts two ranks, which import torch."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(SUPPORT / "streaming_cases.py"), str(tmp_path)]
    variables = {**environment(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    rows = {name: [_ids(rank[name][0]) for rank in ranks] for name in ranks[0]}
    for name in ("shards", "examples", "plain", "split by hand"):
        assert not set(rows[name][0]) & set(rows[name][1]), name
        assert sorted(rows[name][0] + rows[name][1]) == list(range(8)), name
    assert rows["shards"] == rows["split by hand"]
    assert rows["plain"] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert rows["split by itself"] == [[0, 1, 2, 3]] * 2  # as split_stream=False says
    whole, _, line = one_step(tmp_path / "whole", 8, 1)
    for name in ("shards", "examples", "plain", "split by hand"):
        for rank in ranks:
            assert worst(whole, rank[name][1]) <= 1e-5, name
        assert ranks[0][name][2]["loss"] == pytest.approx(line["loss"], rel=1e-5), name
    # 5 rows: 3 and 2, so rank 0 has a batch more. Rank 1 takes part in its step with a filler, and
    # both begin the next pass.
    trained = [[epoch for epoch, _ in rank["uneven"][0]] for rank in ranks]
    assert trained == [[0, 0, 1], [0, 1]]
    first_pass = [[ids for epoch, ids in rank["uneven"][0] if epoch == 0] for rank in ranks]
    assert sorted(i for rank in first_pass for ids in rank for i in ids) == list(range(5))


def _ids(seen_by_collator):
    return [sample for _, samples in seen_by_collator for sample in samples]


def test_json_of_the_log_is_plain(tmp_path):
    trainer = train(tmp_path, PlainStream(), max_steps=2)
    json.dumps(trainer.state.log_history)
