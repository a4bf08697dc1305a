"""Vocabulary, SpanCorruption, Masking: their reprs, their keywords, and what each refuses."""

import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.data import DataCollatorForMetro, DataCollatorForSpanCorruption, EpochCell
from metro_fast.ops import (
    Denoiser,
    Masking,
    SpanCorruption,
    Vocabulary,
    corrupt_spans,
    mask_tokens,
)
from metro_fast.ops.masking import MaskKeywords
from metro_fast.ops.span_corruption import SpanKeywords

IDS = np.arange(10, 40)[None]


def names(*kinds):
    return {field.name for kind in kinds for field in fields(kind)}


def test_every_keyword_is_a_field():
    assert SpanKeywords.__optional_keys__ <= names(Denoiser, SpanCorruption, Vocabulary)
    assert MaskKeywords.__optional_keys__ <= names(Masking, Vocabulary)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Vocabulary(), "Vocabulary()"),
        (
            Vocabulary(sentinel_first=99, word_starts=np.zeros(9, bool)),
            "Vocabulary(sentinel_first=99, word_starts=<bool (9,)>)",
        ),
        (Vocabulary(special_token_ids=range(500)), "Vocabulary(special_token_ids=<500 values>)"),
        (Masking(count="electra"), "Masking(count='electra')"),
        (SpanCorruption(max_input_length=9), "SpanCorruption(max_input_length=9)"),
        (Denoiser(noise="iid", weight=2.0), "Denoiser(noise='iid', weight=2.0)"),
    ],
)
def test_reprs_show_what_differs_from_the_defaults(value, text):
    assert repr(value) == text
    assert repr(pickle.loads(pickle.dumps(value))) == text


def test_reprs_of_collators_and_the_epoch_are_one_line():
    span = DataCollatorForSpanCorruption(sentinel_first=99, eos_token_id=1, pad_token_id=0, seed=7)
    assert repr(span) == (
        "DataCollatorForSpanCorruption(corruption=SpanCorruption(), "
        "vocabulary=Vocabulary(sentinel_first=99), seed=7)"
    )
    metro = DataCollatorForMetro(mask_token_id=3, vocab_size=50, pad_token_id=0)
    assert repr(metro).startswith("DataCollatorForMetro(masking=Masking(), vocabulary=Vocabulary(")
    cell = EpochCell()
    cell.set(3)
    assert repr(cell) == "EpochCell(3)"


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Vocabulary().pad_token_id = 3


def test_a_keyword_takes_the_place_of_a_field():
    vocabulary = Vocabulary(eos_token_id=5, pad_token_id=7)
    batch = corrupt_spans(IDS, vocabulary=vocabulary, eos_token_id=None)
    assert 5 not in batch.input_ids
    whole = corrupt_spans(IDS, vocabulary=vocabulary)
    assert (whole.input_ids[:, -1], whole.labels[:, -1]) == (5, 5)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (
            corrupt_spans,
            {"num_sentinels": 9},
            r"give vocabulary=Vocabulary\(num_sentinels=\.\.\.\)",
        ),
        (corrupt_spans, {"max_input_length": 9}, r"give corruption=SpanCorruption\(max_input_len"),
        (corrupt_spans, {"sentinels": 9}, "no keyword sentinels: expected one of denoisers, eos"),
        (mask_tokens, {"count": "metro"}, r"give masking=Masking\(count=\.\.\.\)"),
        (mask_tokens, {"mask_token_id": 3}, "vocab_size is None, expected an integer"),
        (mask_tokens, {"vocab_size": 50}, "mask_token_id is None, expected an integer"),
    ],
)
def test_keywords_that_are_wrong_or_missing_are_type_errors(call, options, message):
    with pytest.raises(TypeError, match=message):
        call(IDS, **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Vocabulary(pad_token_id=-1), MetroFastError, "pad_token_id is -1"),
        (lambda: Vocabulary(eos_token_id=0.5), TypeError, "eos_token_id is a float"),
        (lambda: Masking(mask_span_length=0), MetroFastError, "mask_span_length is 0"),
        (lambda: Masking(mlm_probability="all"), TypeError, "mlm_probability is 'all'"),
        (lambda: Masking(random_token_range=3), TypeError, "random_token_range is 3"),
        (lambda: SpanCorruption(denoisers=[3]), TypeError, "denoisers holds a int"),
        (lambda: SpanCorruption(max_input_length="x"), TypeError, "max_input_length is a str"),
    ],
)
def test_values_are_checked_when_they_are_made(make, error, message):
    with pytest.raises(error, match=message):
        make()
