"""CorpusLoader: neither workers nor ranks nor resuming change a bit of any batch."""

import json

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.data import (
    CorpusLoader,
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    TokenCorpus,
    write_corpus,
)

ROWS = 25
"""Blocks of the corpus: two steps of 12 rows, and one row too many."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    write_corpus(folder, [rng.integers(4, 500, 37) for _ in range(ROWS)])
    return folder


def make(folder, *, collator="inside", seed=3, shuffle=True, **options):
    """A loader over windows of 20 of documents of 37 tokens."""
    noise = DataCollatorForMetro(mask_token_id=3, vocab_size=500, pad_token_id=0, seed=seed)
    corpus = TokenCorpus(
        folder,
        block_size=20,
        blocks="eos",
        collator=noise if collator == "inside" else None,
        shuffle=shuffle,
        seed=seed,
    )
    if collator == "outside":
        options["collate_fn"] = noise
    return CorpusLoader(corpus, **{"batch_size": 4, "epochs": 3, **options})


def equal(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(x[key].equal(y[key]) for key in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def expected(folder):
    return list(make(folder))


def test_an_epoch_reads_every_block_in_its_order(expected):
    assert len(expected) == 18
    for epoch in range(3):
        batches = expected[epoch * 6 : epoch * 6 + 6]
        assert {int(batch["epoch"]) for batch in batches} == {epoch}
        ids = torch.cat([batch["sample_ids"] for batch in batches]).tolist()
        assert len(set(ids)) == 24
    assert not torch.equal(expected[0]["sample_ids"], expected[6]["sample_ids"])


SLOW_START = pytest.mark.slow  # Every worker is a fresh interpreter that imports torch.


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning")
@pytest.mark.parametrize("collator", ["inside", "outside"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 1},
        {"num_workers": 2, "prefetch_factor": 5},
        {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 5},
        {"num_workers": 4, "persistent_workers": True},
        {"num_workers": 4},
        pytest.param(
            {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "spawn"},
            marks=SLOW_START,
        ),
        pytest.param({"num_workers": 1, "multiprocessing_context": "spawn"}, marks=SLOW_START),
        pytest.param(
            {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "forkserver"},
            marks=SLOW_START,
        ),
    ],
)
def test_workers_change_nothing(folder, expected, options, collator):
    assert equal(list(make(folder, collator=collator, **options)), expected)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_the_rows_of_one_rank(folder, world_size, drop_last):
    options = {"batch_size": 12, "drop_last": drop_last, "collator": "none"}
    if not drop_last and world_size > 1:
        with pytest.raises(MetroFastError, match=r"last step of an epoch has 1 rows for world_"):
            make(folder, world_size=world_size, **options)
        return
    whole = list(make(folder, **options))
    ranks = [
        list(make(folder, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        shares = [rank[step] for rank in ranks]
        for key in batch:
            assert torch.cat([share[key] for share in shares]).equal(batch[key])
    assert len(whole) == (6 if drop_last else 9)


def test_a_short_last_step_is_shared(folder):
    options = {"batch_size": 11 * 2, "drop_last": False, "collator": "none", "epochs": 1}
    ranks = [list(make(folder, rank=rank, world_size=2, **options)) for rank in range(2)]
    assert [[len(batch["sample_id"]) for batch in rank] for rank in ranks] == [[11, 1], [11, 2]]
    assert len(set(torch.cat([b["sample_id"] for rank in ranks for b in rank]).tolist())) == 25


@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "prefetch_factor": 4}])
@pytest.mark.parametrize("stop", [0, 1, 5, 6, 7, 11, 12, 17, 18])
def test_a_loaded_state_continues_at_the_next_batch(folder, expected, stop, options):
    first = make(folder, **options)
    batches = iter(first)
    for _ in range(stop):
        next(batches)
    state = json.loads(json.dumps(first.state_dict()))
    assert (state["epoch"], state["position"]) == (stop // 6, stop % 6 * 4)
    again = make(folder)
    again.load_state_dict(state)
    assert equal(list(again), expected[stop:])


def test_the_same_loader_continues_from_every_position(folder, expected):
    loader = make(folder)
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]
    for start, state in enumerate(states):
        loader.load_state_dict(state)
        assert equal(list(loader), expected[start:])


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_was_left_continues_where_it_was(folder, expected, persistent):
    loader = make(folder, num_workers=2, persistent_workers=persistent)
    seen = []
    for _ in range(9):
        for batch in loader:
            seen.append(batch)
            if len(seen) % 2 == 0:
                break
    assert equal(seen, expected)


def test_another_number_of_ranks_continues(folder):
    one = make(folder, batch_size=12, collator="none")
    whole = iter(one)
    next(whole)
    rest = [make(folder, batch_size=12, collator="none", rank=r, world_size=4) for r in range(4)]
    for rank in rest:
        rank.load_state_dict(one.state_dict())
    for batch, *shares in zip(whole, *rest, strict=True):
        assert torch.cat([share["sample_id"] for share in shares]).equal(batch["sample_id"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "seed 3, but this loader has 4"),
        ({"batch_size": 2}, "batch_size 4, but this loader has 2"),
        ({"shuffle": False}, "shuffle True, but this loader has False"),
        ({"drop_last": False}, "drop_last True, but this loader has False"),
        ({"collator": "none"}, "collator_seed 3, but this loader has None"),
    ],
)
def test_a_state_of_another_loader_is_refused(folder, options, message):
    with pytest.raises(MetroFastError, match=message):
        make(folder, **options).load_state_dict(make(folder).state_dict())


def test_a_state_of_another_corpus_or_outside_it_is_refused(folder, tmp_path):
    write_corpus(tmp_path, [[5] * 37] * 24)
    with pytest.raises(MetroFastError, match="num_blocks 25, but this loader has 24"):
        make(tmp_path).load_state_dict(make(folder).state_dict())
    loader = make(folder)
    for position in (3, 24, 1000):
        with pytest.raises(MetroFastError, match=f"position of the state is {position}, expected"):
            loader.load_state_dict({**loader.state_dict(), "position": position})
    with pytest.raises(MetroFastError, match="epoch of the state is -1"):
        loader.load_state_dict({**loader.state_dict(), "epoch": -1})
    with pytest.raises(MetroFastError, match="saved with seed None"):
        loader.load_state_dict({})


def test_one_iteration_at_a_time(folder, expected):
    loader = make(folder)
    old = iter(loader)
    next(old)
    new = iter(loader)
    with pytest.raises(MetroFastError, match="one at a time"):
        next(old)
    assert equal(list(new), expected[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 26}, "batch_size is 26, but an epoch has 25 rows"),
        ({"world_size": 3}, "batch_size is 4 rows over all ranks, .* world_size 3"),
        ({"rank": 1}, "rank is 1, expected 0 to 0"),
        ({"rank": -1}, "rank is -1"),
        ({"epochs": -1}, "epochs is -1"),
        ({"shuffle": None, "sampler": [1]}, r"sampler is \[1\], expected none"),
    ],
)
def test_bad_options_are_named(folder, options, message):
    with pytest.raises(MetroFastError, match=message):
        make(folder, **{**options, "shuffle": True})


def test_the_loader_uses_the_order_of_the_corpus(folder):
    corpus = TokenCorpus(folder, block_size=5)
    with pytest.raises(MetroFastError, match="give shuffle=True to the TokenCorpus"):
        CorpusLoader(corpus, batch_size=2, shuffle=True)


def test_the_random_state_of_the_model_is_left_alone(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(make(folder)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow  # imports transformers
def test_a_stock_trainer_in_sequence_sees_the_same_batches(folder, tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments

    def corpus():
        collator = DataCollatorForSpanCorruption(sentinel_first=999, eos_token_id=1, pad_token_id=0)
        return TokenCorpus(
            folder, block_size=20, blocks="pack", collator=collator, shuffle=True, seed=7
        )

    shape = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=1000, decoder_start_token_id=0, **shape))
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, batch: seen.append(batch["input_ids"].clone()), with_kwargs=True
    )
    train = corpus()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model, arguments, train.collator, train).train()
    expected = list(CorpusLoader(corpus(), batch_size=8, epochs=2))
    assert len(seen) == len(expected) > 4
    for ids, batch in zip(seen, expected, strict=True):
        assert torch.equal(ids, batch["input_ids"])


def test_processes_without_a_group_are_refused(folder, monkeypatch):
    """With torchrun and no process group, each rank would read every row."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for given in ({}, {"rank": 0}, {"world_size": 2}):
        with pytest.raises(MetroFastError, match="WORLD_SIZE is 2, but this process has joined no"):
            make(folder, **given)
    assert "rank=1 of 2" in repr(make(folder, rank=1, world_size=2))
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "rank=0 of 1" in repr(make(folder))
