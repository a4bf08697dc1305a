"""replaced_token_labels: against the reference, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metro_fast import MetroFastError
from metro_fast.ops import mask_tokens, replaced_token_labels
from metro_fast.testing.replaced_token_labels import replaced_token_labels as reference


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
    threads=st.integers(1, 4),
)
def test_equals_the_reference(shape, seed, threads):
    random = np.random.default_rng(seed)
    original = random.integers(0, 5, shape)
    padding = random.random(shape) < 0.3
    original[padding] = -100
    positions = np.flatnonzero(~padding & (random.random(shape) < 0.4))
    sampled = random.integers(0, 5, len(positions))
    batch = replaced_token_labels(original, sampled, positions, pad_token_id=9, num_threads=threads)
    expected = reference(original, sampled, positions, pad_token_id=9)
    assert np.array_equal(batch.input_ids, expected[0])
    assert np.array_equal(batch.labels, expected[1])
    assert (batch.input_ids.dtype, batch.labels.dtype) == (np.int64, np.int8)


def test_takes_a_mask_batch_of_tensors():
    ids = torch.arange(10, 30).reshape(2, 10)
    masks = mask_tokens(ids, mask_token_id=3, vocab_size=40, mlm_probability=0.5)
    sampled = ids.reshape(-1)[masks.masked_positions].clone()
    sampled[0] = 39
    batch = replaced_token_labels(masks.labels, sampled, masks.masked_positions)
    assert isinstance(batch.labels, torch.Tensor)
    assert batch.labels.sum() == 1
    assert (batch.input_ids != ids).sum() == 1


def test_out_is_written_and_returned():
    original = np.array([[4, 5, -100]])
    out = (np.empty((1, 3), np.int64), np.empty((1, 3), np.int8))
    batch = replaced_token_labels(original, [6], [1], out=out)
    assert batch.input_ids is out[0]
    assert batch.labels is out[1]
    assert (out[0].tolist(), out[1].tolist()) == ([[4, 6, 0]], [[0, 1, -100]])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_out_that_shares_memory_is_refused(kind):
    original, labels = kind(np.array([[4, 5]])), kind(np.zeros((1, 2), np.int8))
    with pytest.raises(MetroFastError, match=r"out\[0\] shares memory with original"):
        replaced_token_labels(original, [6], [1], out=(original, labels))
    ids = kind(np.array([6, 6]))
    with pytest.raises(MetroFastError, match=r"out\[0\] shares memory with sampled"):
        replaced_token_labels(original, ids, [0, 1], out=(ids[None], labels))


def test_batches_without_masked_tokens_and_without_tokens():
    assert replaced_token_labels(np.array([[4]]), [], []).labels.tolist() == [[0]]
    assert replaced_token_labels(np.empty((0, 3), np.int64), [], []).labels.shape == (0, 3)


@pytest.mark.parametrize(
    ("sampled", "positions", "options", "message"),
    [
        ([1], [0, 1], {}, "1 ids for 2 masked_positions"),
        ([1], [3], {}, "3 at 0, expected flat indices below 3"),
        ([1], [-1], {}, "-1 at 0"),
        ([1, 1], [1, 0], {}, "0 at 1"),
        ([1, 1], [1, 1], {}, "strictly ascending"),
        ([1], [2], {}, "2 at 0, which is padding"),
        ([-1], [0], {}, "sampled is -1 at 0"),
        ([1], [0], {"pad_token_id": -1}, "pad_token_id is -1"),
        ([1], [0], {"out": (np.zeros((1, 4), int), np.zeros((1, 3), np.int8))}, r"\(1, 4\)"),
    ],
)
def test_bad_values_are_named(sampled, positions, options, message):
    with pytest.raises(MetroFastError, match=message):
        replaced_token_labels(np.array([[4, 5, -100]]), sampled, positions, **options)


@pytest.mark.parametrize(
    ("original", "sampled", "message"),
    [
        ([[4]], [1], "original is a list"),
        (np.array([[4]], np.int32), [1], "array of int32, expected int64"),
        (np.array([[4]]), [0.5], "sampled has dtype float64"),
        (np.array([[4]]), [[1]], "2 dimensions"),
    ],
)
def test_wrong_types_are_type_errors(original, sampled, message):
    with pytest.raises(TypeError, match=message):
        replaced_token_labels(original, sampled, [0])
