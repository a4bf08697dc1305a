"""DataCollatorForUL2: the denoiser of each row, mode tokens, schedules."""

import pickle

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.data import (
    DataCollatorForSpanCorruption,
    DataCollatorForUL2,
    span_vocabulary,
    train_tokenizer,
)
from metro_fast.ops import Denoiser, corrupt_spans, ul2_denoisers

# Rows are drawn again and again on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:samples come round again")

SPAN = {"sentinel_first": 999, "eos_token_id": 1, "pad_token_id": 0}
TWO = (Denoiser(weight=1.0), Denoiser(noise="prefix", noise_density=0.25, weight=3.0))


def matrix(rows=40, length=60):
    return np.random.default_rng(0).integers(100, 900, (rows, length))


def columns(ids, **more):
    return {"input_ids": ids, "sample_id": np.arange(len(ids)), **more}


def test_a_batch_equals_that_of_the_op():
    collator = DataCollatorForUL2(denoisers=TWO, seed=3, **SPAN)
    batch = collator(columns(matrix()))
    expected = corrupt_spans(matrix(), denoisers=TWO, seed=3, **SPAN)
    for name in ("input_ids", "labels", "denoisers"):
        assert np.array_equal(batch[name], getattr(expected, name))
    assert batch["num_encoder_tokens"] == batch["attention_mask"].sum()
    assert set(batch["denoisers"].tolist()) == {0, 1}


def test_the_denoiser_of_a_row_does_not_depend_on_its_batch():
    collator = DataCollatorForUL2(mode_tokens=None, **SPAN)
    whole = collator(columns(matrix()))
    part = collator({"input_ids": matrix()[7:9], "sample_id": [7, 8]})
    assert part["denoisers"].tolist() == whole["denoisers"][7:9].tolist()
    assert len(set(whole["denoisers"].tolist())) == 7


def test_mode_tokens_come_from_the_tokenizer():
    tokenizer = train_tokenizer(["a b c", "c b a"], vocab_size=60, num_sentinels=20)
    with pytest.raises(MetroFastError, match=r"no token \[NLU\]"):
        DataCollatorForUL2(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[NLU]", "[NLG]", "[S2S]"]})
    batch = DataCollatorForUL2(tokenizer)(columns(matrix() % 5 + 4))
    first = [tokenizer.convert_ids_to_tokens(row[0].item()) for row in batch["input_ids"]]
    modes = ["[NLU]", "[NLU]", *["[NLG]"] * 4, "[S2S]"]
    assert first == [modes[denoiser] for denoiser in batch["denoisers"]]
    with pytest.raises(MetroFastError, match="no tokenizer"):
        DataCollatorForUL2(**SPAN)


def test_prefix_language_modeling_splits_the_row():
    sequential = ul2_denoisers()[-1]
    ids = matrix(1)
    batch = DataCollatorForUL2(denoisers=[sequential], **SPAN)(columns(ids))
    inputs = batch["input_ids"][0, : batch["attention_mask"].sum()].tolist()
    labels = batch["labels"][0].tolist()
    assert inputs[-1] == labels[-1] == 1
    assert inputs[:-1] + labels[:-1] == ids[0].tolist()


def test_a_schedule_weights_each_row_by_its_step():
    schedule = [(0, [1, 0]), (10, [0, 1]), (20, [1, 1])]
    collator = DataCollatorForUL2(denoisers=TWO, schedule=schedule, schedule_batch_size=4, **SPAN)
    collator = pickle.loads(pickle.dumps(collator))
    positions = np.arange(20, 60)  # steps 5 to 14
    batch = collator(columns(matrix(), position=positions))
    assert batch["denoisers"].tolist() == [int(position >= 40) for position in positions]
    late = collator(columns(matrix(), position=positions + 1000))
    assert set(late["denoisers"].tolist()) == {0, 1}
    with pytest.raises(MetroFastError, match="where in training a row is"):
        collator(columns(matrix()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": [(0, [1, 1])]}, "belong together"),
        ({"schedule": [], "schedule_batch_size": 4}, "expected ascending steps from 0"),
        ({"schedule": [(1, [1, 1])], "schedule_batch_size": 4}, r"steps \[1\]"),
        ({"schedule": [(0, [1, 1]), (0, [1, 1])], "schedule_batch_size": 4}, r"steps \[0, 0\]"),
        ({"schedule": [(0, [1])], "schedule_batch_size": 4}, "weights is .*, expected 2 numbers"),
        ({"schedule": [(0, [0, 0])], "schedule_batch_size": 4}, "not all 0"),
        ({"schedule": [(0, [1, 1])], "schedule_batch_size": 0}, "schedule_batch_size is 0"),
        ({"noise_density": 0.3}, "settings of the default denoiser"),
        ({"input_length": 1}, "input_length is 1"),
        ({"input_length": 33, "pad_to_multiple_of": 8}, "a multiple of pad_to_multiple_of 8"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(MetroFastError, match=message):
        DataCollatorForUL2(denoisers=TWO, **SPAN, **options)


def test_the_shape_can_be_fixed():
    vocabulary = span_vocabulary(decoder_start_token_id=0, **SPAN)
    collator = DataCollatorForUL2(
        mode_tokens=None, input_length=48, target_length=24, vocabulary=vocabulary
    )
    for rows in (3, 7):
        batch = collator(columns(matrix(rows)))
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (rows, 48)
        assert batch["labels"].shape == batch["decoder_input_ids"].shape == (rows, 24)
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            assert ids[mask.sum() - 1] == 1, "a row that is cut still ends in EOS"


def test_a_fixed_shape_compiles_once():
    graphs = []

    def count(module, inputs):
        graphs.append(module)
        return module.forward

    collator = DataCollatorForSpanCorruption(input_length=56, target_length=16, **SPAN)
    step = torch.compile(lambda ids, labels: ids.sum() + labels.sum(), backend=count)
    for shorter in range(3):
        batch = collator(columns(matrix(4, 58 - shorter)))
        step(batch["input_ids"], batch["labels"])
    assert len(graphs) == 1
