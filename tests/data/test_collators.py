"""The two collators: their inputs from features and tokenizers, and their batches."""

import pickle

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    EpochCallback,
    train_tokenizer,
)
from metro_fast.ops import corrupt_spans, mask_tokens

SPAN = {"sentinel_first": 999, "eos_token_id": 1, "pad_token_id": 0}
METRO = {"mask_token_id": 3, "vocab_size": 1000, "pad_token_id": 0}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        ["one two three four", "four three two one"], vocab_size=60, num_sentinels=8
    )


def features(lengths=(30, 20, 30), kind=list, first_id=5):
    random = np.random.default_rng(0)
    return [
        {"input_ids": kind(random.integers(100, 900, length)), "sample_id": first_id + i}
        for i, length in enumerate(lengths)
    ]


def make(name, **options):
    if name == "span":
        return DataCollatorForSpanCorruption(**{**SPAN, **options})
    return DataCollatorForMetro(**{**METRO, **options})


def test_a_span_batch_equals_that_of_the_op():
    rows = features()
    batch = make("span", seed=4)(rows)
    flat = np.concatenate([row["input_ids"] for row in rows])
    expected = corrupt_spans(flat, offsets=[0, 30, 50, 80], sample_ids=[5, 6, 7], seed=4, **SPAN)
    assert batch["input_ids"].equal(torch.from_numpy(expected.input_ids))
    assert batch["labels"].equal(torch.from_numpy(expected.labels))
    assert batch["attention_mask"].sum(1).tolist() == expected.input_lengths.tolist()
    assert batch["input_ids"][batch["attention_mask"] == 0].eq(0).all()
    assert batch["num_labels"] == (batch["labels"] != -100).sum()
    assert set(batch) == {
        "input_ids", "attention_mask", "labels", "num_labels", "num_encoder_tokens", "denoisers",
        "sample_ids", "epoch",
    }  # fmt: skip


def test_a_metro_batch_equals_that_of_the_op():
    rows = features()
    batch = make("metro", seed=4)(rows)
    flat = np.concatenate([row["input_ids"] for row in rows])
    expected = mask_tokens(
        flat,
        offsets=[0, 30, 50, 80],
        sample_ids=[5, 6, 7],
        seed=4,
        special_token_ids=[0, 3],
        **METRO,
    )
    for name in ("input_ids", "labels", "masked_positions"):
        assert batch[name].equal(torch.from_numpy(getattr(expected, name)))
    assert batch["attention_mask"].sum(1).tolist() == [30, 20, 30]
    assert batch["num_masked"] == len(expected.masked_positions)
    assert batch["num_labels"] == batch["num_encoder_tokens"] == 80
    assert set(batch) == {
        "input_ids", "attention_mask", "labels", "masked_positions", "sample_ids", "epoch",
        "num_masked", "num_labels", "num_encoder_tokens",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["span", "metro"])
def test_batches_are_contiguous_int64(name):
    batch = make(name, pad_to_multiple_of=16)(features())
    for key, tensor in batch.items():
        assert tensor.dtype == torch.int64, key
        assert tensor.is_contiguous(), key
        assert tensor.shape == () or tensor.ndim in (1, 2)
    assert all(batch[key].shape == () for key in batch if key.startswith("num_") or key == "epoch")
    assert batch["input_ids"].shape[1] % 16 == batch["labels"].shape[1] % 16 == 0


@pytest.mark.parametrize("name", ["span", "metro"])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda ids: ids.astype(np.uint16)])
def test_rows_may_be_lists_arrays_or_tensors(name, kind):
    batch = make(name)(features(kind=kind))
    expected = make(name)(features())
    assert all(batch[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["span", "metro"])
def test_the_draw_follows_the_sample_and_the_epoch_not_the_batch(name):
    collator = make(name, seed=9)
    collator.set_epoch(0)
    rows = features((100,) * 6)
    whole, part = collator(rows), collator([rows[4], rows[1]])
    assert part["input_ids"].equal(whole["input_ids"][[4, 1]])
    collator.set_epoch(1)
    assert collator(rows)["epoch"] == 1
    assert not collator(rows)["input_ids"].equal(whole["input_ids"])
    assert not make(name, seed=8)(rows)["input_ids"].equal(whole["input_ids"])


@pytest.mark.parametrize("name", ["span", "metro"])
def test_without_sample_ids_rows_are_identified_by_content_with_one_warning(name):
    collator = make(name)
    collator.set_epoch(0)
    [row] = features((40,))
    del row["sample_id"]
    with pytest.warns(UserWarning, match="no sample_id"):
        batch = collator([row, row])
    again = collator([dict(row)])
    assert not batch["input_ids"][0].equal(batch["input_ids"][1]), "equal rows are drawn apart"
    assert batch["input_ids"][0].equal(again["input_ids"][0])
    assert (batch["sample_ids"] >= 0).all()


def test_an_epoch_that_was_never_set_is_noticed_when_samples_return():
    collator, rows = make("span"), features((20,) * 4)
    collator(rows[:2])
    collator(rows[2:])
    with pytest.warns(UserWarning, match="nobody has set the epoch"):
        collator(rows[1::-1])
    collator(rows[:2])
    collator = make("span")
    collator.set_epoch(0)
    collator(rows)
    collator(rows)


def test_max_length_cuts_rows_before_they_are_corrupted():
    rows = features((30, 10))
    cut = [{**row, "input_ids": row["input_ids"][:12]} for row in rows]
    batch, expected = make("metro", max_length=12)(rows), make("metro")(cut)
    assert all(batch[key].equal(expected[key]) for key in expected)


def test_a_tokenizer_supplies_the_ids(tokenizer):
    span, metro = DataCollatorForSpanCorruption(tokenizer), DataCollatorForMetro(tokenizer)
    size = len(tokenizer)
    assert span.vocabulary.sentinel_first == size - 1
    assert (span.vocabulary.sentinel_step, span.vocabulary.num_sentinels) == (-1, 8)
    assert (span.vocabulary.eos_token_id, span.vocabulary.pad_token_id) == (1, 0)
    assert metro.vocabulary.mask_token_id == 3
    assert metro.vocabulary.vocab_size == size
    assert metro.vocabulary.special_token_ids == (0, 1, 2, 3, *range(size - 8, size))


class Vocabulary:
    """The part of a tokenizer that a collator reads."""

    pad_token_id, eos_token_id, mask_token_id, all_special_ids = 0, 1, None, (0, 1)
    added_tokens_decoder: dict[int, object] = {}  # noqa: RUF012

    def __init__(self, *sentinels):
        self._ids = {f"<extra_id_{i}>": sentinel for i, sentinel in enumerate(sentinels)}

    def get_vocab(self):
        return self._ids

    def __len__(self):
        return 100


def test_sentinels_may_count_up_and_replace_a_mask_token():
    span = DataCollatorForSpanCorruption(Vocabulary(4, 5, 6))
    assert (span.vocabulary.sentinel_step, span.vocabulary.num_sentinels) == (1, 3)
    metro = DataCollatorForMetro(Vocabulary(4, 5, 6))
    assert metro.vocabulary.mask_token_id == 4, "upstream masks with its first sentinel"
    assert metro.vocabulary.special_token_ids == (0, 1, 4, 5, 6)
    for bad in ((4, 6), (4, 5, 9)):
        with pytest.raises(MetroFastError, match="expected consecutive ids"):
            DataCollatorForSpanCorruption(Vocabulary(*bad))
    with pytest.raises(MetroFastError, match="no token <extra_id_0>"):
        DataCollatorForSpanCorruption(Vocabulary())


@pytest.mark.parametrize("name", ["span", "metro"])
def test_a_copy_draws_what_the_original_draws(name):
    collator = make(name, seed=3)
    collator.set_epoch(2)
    copy = pickle.loads(pickle.dumps(collator))
    a, b = collator(features()), copy(features())
    assert all(a[key].equal(b[key]) for key in a)


def test_the_callback_passes_on_a_stock_trainers_epoch():
    class State:
        epoch = 2.0

    collator = make("span")
    EpochCallback(collator).on_epoch_begin(None, State(), None)
    assert collator(features())["epoch"] == 2


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], MetroFastError, "0 rows"),
        ([{"ids": [1]}], MetroFastError, r"row 0 of the batch is \['ids'\]"),
        (["text"], TypeError, "expected integers"),
        ("text", TypeError, "the batch is a str"),
        (np.zeros((2, 3)), TypeError, "array of float64 in 2 dimensions"),
        (np.zeros((2, 0), int), MetroFastError, r"shape \(2, 0\)"),
        ({"ids": [[5]]}, MetroFastError, r"columns \['ids'\], expected 'input_ids'"),
        ({"input_ids": [[5]], "sample_id": [1, 2]}, MetroFastError, "2 numbers for 1 rows"),
        ([{"input_ids": []}], MetroFastError, "row 0 is empty"),
        ([{"input_ids": [0.5]}], TypeError, "dtype float64"),
        ([{"input_ids": [[1]]}], TypeError, "2 dimensions"),
        ([{"input_ids": ["a"]}], TypeError, "expected integers"),
        (
            [{"input_ids": [5], "sample_id": 1}, {"input_ids": [5]}],
            MetroFastError,
            "1 of 2 rows of the batch have a sample_id",
        ),
        ([{"input_ids": [5], "sample_id": -1}], MetroFastError, "sample_id of row 0 is -1"),
        ([{"input_ids": [5], "sample_id": 1.7}], TypeError, "sample_id of row 0 is a float"),
        ([{"input_ids": torch.tensor([5.0]).bfloat16()}], TypeError, "is a bfloat16 tensor"),
        ({"input_ids": [5]}, TypeError, "0 dimensions"),
        ([{"input_ids": [-5], "sample_id": 1}], MetroFastError, "-5 at row 0, column 0"),
        ([{"input_ids": [2000], "sample_id": 1}], MetroFastError, "2000 at row 0"),
    ],
)
def test_bad_rows_are_named(rows, error, message):
    with pytest.raises(error, match=message):
        make("metro")(rows)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("span", {"sentinel_first": None}, "sentinel_first is None"),
        ("span", {"eos_token_id": None}, "eos_token_id is None"),
        ("span", {"noise_density": 1.0}, "noise_density is 1"),
        ("span", {"mean_noise_span_length": 0.0}, "mean_noise_span_length is 0"),
        ("span", {"seed": -1}, "seed is -1"),
        ("span", {"max_length": 0}, "max_length is 0"),
        ("span", {"num_threads": 0}, "num_threads is 0"),
        ("metro", {"vocab_size": None}, "vocab_size is None"),
        ("metro", {"mask_token_id": None}, "mask_token_id is None"),
        ("metro", {"pad_token_id": None}, "pad_token_id is None"),
        ("metro", {"mlm_probability": 2.0}, "mlm_probability is 2"),
        ("metro", {"special_token_ids": [1000]}, "special_token_ids is 1000"),
        ("metro", {"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
    ],
)
def test_bad_options_fail_when_the_collator_is_made(name, options, message):
    with pytest.raises(MetroFastError, match=message):
        make(name, **options)
