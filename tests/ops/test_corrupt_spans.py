"""corrupt_spans: bit-equal to its reference, T5's own cases, exact marginals, bad input."""

import json
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grouped import grouped
from metro_fast import MetroFastError
from metro_fast.ops import Vocabulary, compute_input_and_target_lengths, corrupt_spans
from metro_fast.testing.corrupt_spans import corrupt_row, noise_probabilities, restore_row
from metro_fast.testing.noise_laws import span_counts
from metro_fast.testing.strategies import counters, ragged_rows
from shared_files import shared_files

SENTINELS = range(32099, 31999, -1)


@given(
    rows=ragged_rows(),
    density=st.floats(0, 0.99),
    mean=st.floats(1, 12),
    seed=counters,
    epoch=counters,
    threads=st.integers(1, 4),
)
def test_equals_the_reference_and_rebuilds_its_source(rows, density, mean, seed, epoch, threads):
    ids, offsets, names = rows
    options = {"noise_density": density, "mean_noise_span_length": mean}
    batch = corrupt_spans(
        ids,
        offsets=offsets,
        sample_ids=names,
        seed=seed,
        epoch=epoch,
        num_threads=threads,
        **options,
    )
    expected = []
    for row, name in enumerate(names.tolist()):
        source = ids[offsets[row] : offsets[row + 1]].tolist()
        inputs, labels = corrupt_row(source, name, seed=seed, epoch=epoch, **options)
        expected.append((inputs, labels))
        assert restore_row(inputs, labels, SENTINELS) == source
    widths = [max(len(pair[side]) for pair in expected) for side in (0, 1)]
    for side, fill in ((0, 0), (1, -100)):
        padded = [pair[side] + [fill] * (widths[side] - len(pair[side])) for pair in expected]
        assert batch[side].dtype == np.int64
        assert batch[side].tolist() == padded
        assert batch[side + 2].tolist() == [len(pair[side]) for pair in expected]
    assert (batch.attention_mask, batch.decoder_input_ids) == (None, None)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64"])
def test_neither_layout_nor_dtype_nor_threads_nor_order_change_a_draw(dtype):
    ids = np.random.default_rng(0).integers(2, 30_000, (33, 70))
    expected = corrupt_spans(ids, sample_ids=np.arange(33), seed=4, num_threads=1)
    same = corrupt_spans(ids.astype(dtype), seed=4, num_threads=3)
    flat = corrupt_spans(ids.reshape(-1), offsets=np.arange(34) * 70, seed=4)
    tensors = corrupt_spans(torch.from_numpy(ids.astype(dtype)), seed=4)
    for other in (same, flat):
        assert all(np.array_equal(a, b) for a, b in zip(expected, other, strict=True))
    assert all(isinstance(t, torch.Tensor) for t in tensors[:5])
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(expected[:5], tensors[:5], strict=True))
    order = np.random.default_rng(1).permutation(33)[:7]
    part = corrupt_spans(ids[order], sample_ids=order, seed=4)
    assert np.array_equal(part.input_ids, expected.input_ids[order])


def test_seed_epoch_and_sample_id_each_change_the_draw():
    ids = np.arange(100, 600)[None]
    base = corrupt_spans(ids).labels
    for change in ({"seed": 1}, {"epoch": 1}, {"sample_ids": [1]}):
        assert not np.array_equal(base, corrupt_spans(ids, **change).labels)


def test_marginals_are_exact():
    length, rows = 120, 20_000
    ids = np.broadcast_to(np.arange(2, length + 2, dtype=np.uint16), (rows, length))
    labels = corrupt_spans(ids, seed=3).labels
    hidden = labels[(labels >= 2) & (labels < length + 2)] - 2
    noise, spans = span_counts(length, 0.15, 3.0)
    probability = noise_probabilities(length, noise, spans)
    assert probability.sum() == pytest.approx(noise)
    assert probability[0] == 0
    assert probability[-1] == pytest.approx(1)
    inner = slice(1, length - 1)
    expected = rows * probability[inner]
    z = (np.bincount(hidden, minlength=length)[inner] - expected) / np.sqrt(
        expected * (1 - probability[inner])
    )
    assert 0.85 < sqrt((z**2).mean()) < 1.15
    assert abs(z).max() < 5


def test_the_published_marginals_of_568_tokens():
    probability = noise_probabilities(568, 85, 28)
    assert probability.sum() == pytest.approx(85)
    assert probability[1] == pytest.approx(27 / 482)


@pytest.mark.parametrize("path", shared_files("golden/t5_noise.json"))
def test_t5_golden_cases(path):
    golden = json.loads(path.read_text())
    for case in golden["random_spans_helper"]:
        lengths = compute_input_and_target_lengths(
            case["inputs_length"], case["noise_density"], case["mean_noise_span_length"]
        )
        assert lengths == (case["tokens_length"], case["targets_length"])
    for case in golden["random_spans_noise_mask"]:
        density, mean = case["noise_density"], case["mean_noise_span_length"]
        noise, spans = span_counts(case["length"], density, mean)
        runs = np.diff([0, *case["out"]])
        assert (sum(case["out"]), int((runs == 1).sum())) == (noise, spans)
        ids = np.arange(100, 100 + case["length"])[None]
        batch = corrupt_spans(ids, noise_density=density, mean_noise_span_length=mean)
        assert batch.label_lengths[0] == noise + max(spans, 1) + 1
        assert batch.input_ids[0, 0] == 100, "a row starts with kept tokens"
        assert (ids[0, -1] in batch.labels) == (noise > 0), "and ends in noise"


@pytest.mark.parametrize(
    ("density", "mean", "length", "expected"),
    [(0.15, 3.0, 568, (512, 114)), (0.5, 32.0, 100, (53, 53)), (0.9, 1.0, 20, (5, 21))],
)
def test_lengths_known_by_hand(density, mean, length, expected):
    batch = corrupt_spans(
        np.full((2, length), 7), noise_density=density, mean_noise_span_length=mean
    )
    assert (batch.input_ids.shape[1], batch.labels.shape[1]) == expected


def test_short_rows_and_density_0_are_as_in_t5():
    batch = corrupt_spans(np.array([3, 4, 5]), offsets=[0, 1, 3])
    assert batch.input_ids.tolist() == [[3, 1, 0], [4, 32099, 1]]
    assert batch.labels.tolist() == [[32099, 1, -100], [32099, 5, 1]]
    batch = corrupt_spans(np.array([[3, 4]]), noise_density=0.0)
    assert (batch.input_ids.tolist(), batch.labels.tolist()) == ([[3, 4, 1]], [[32099, 1]])


def test_helper_and_collated_width_agree_at_every_length():
    # Upstream rounds in f64 here and f32 there, and is one off at 190, 350, 390, ...
    for length in range(3, 420):
        tokens, targets = compute_input_and_target_lengths(length)
        batch = corrupt_spans(np.full((1, tokens), 7))
        assert batch.labels.shape[1] == targets
        assert batch.input_ids.shape[1] <= length
        assert corrupt_spans(np.full((1, tokens + 1), 7)).input_ids.shape[1] > length


def test_out_is_written_wider_than_needed_and_returned():
    ids = np.arange(10, 30)[None]
    inputs, labels = np.full((1, 40), 9), torch.full((1, 30), 9)
    batch = corrupt_spans(ids, out=(inputs, labels))
    plain = corrupt_spans(ids)
    assert batch.input_ids is inputs
    assert batch.labels is labels
    width = plain.input_ids.shape[1]
    assert np.array_equal(inputs[:, :width], plain.input_ids)
    assert (inputs[:, width:] == 0).all()
    assert (labels[:, plain.labels.shape[1] :] == -100).all()


def test_sentinels_that_count_up():
    vocabulary = Vocabulary(sentinel_first=4, sentinel_step=1, num_sentinels=16)
    ids = np.arange(100, 140)
    batch = corrupt_spans(ids[None], vocabulary=vocabulary, seed=2)
    inputs, labels = corrupt_row(ids.tolist(), 0, vocabulary=vocabulary, seed=2)
    assert (batch.input_ids[0].tolist(), batch.labels[0].tolist()) == (inputs, labels)
    assert restore_row(inputs, labels, range(4, 20)) == ids.tolist()


def row(*ids):
    return np.array([ids])


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (np.empty((0, 5), np.int64), {}, r"shape \(0, 5\), expected at least one row"),
        (np.empty((2, 0), np.int64), {}, r"shape \(2, 0\)"),
        (np.arange(2, 5), {"offsets": [0, 1, 1, 3]}, "row 1 runs from offset 1 to 1"),
        (np.arange(2, 5), {"offsets": [0, 4]}, "offsets run from 0 to 4, expected .* 3 tokens"),
        (np.arange(2, 5), {}, "1 dimensions, expected 2, or 1 together with offsets"),
        (row(5, 6), {"offsets": [0, 2]}, "2 dimensions"),
        (row(5, -6), {}, "-6 at row 0, column 1"),
        (row(5, 6, 32050), {}, "32050 at row 0, column 2, which is one of the sentinels"),
        (np.full((1, 2048), 7), {}, "2048 tokens needs 102 sentinels, but num_sentinels is 100"),
        (row(5, 6), {"noise_density": 1.0}, "noise_density is 1"),
        (row(5, 6), {"noise_density": -0.1}, "noise_density is -0.1"),
        (row(5, 6), {"noise_density": float("nan")}, "noise_density is NaN"),
        (row(5, 6), {"mean_noise_span_length": 0.5}, "mean_noise_span_length is 0.5"),
        (row(5, 6), {"mean_noise_span_length": float("inf")}, "mean_noise_span_length is inf"),
        (row(5, 6), {"sentinel_step": 2}, "sentinel_step is 2"),
        (row(5, 6), {"num_sentinels": 0}, "num_sentinels is 0"),
        (row(500, 6), {"sentinel_first": 50}, "num_sentinels is 100, expected at most the 51"),
        (row(5, 6), {"eos_token_id": -1}, "eos_token_id is -1"),
        (row(5, 6), {"seed": -1}, "seed is -1"),
        (row(5, 6), {"seed": 2**63}, "seed is 9223372036854775808"),
        (row(5, 6), {"epoch": -1}, "epoch is -1"),
        (row(5, 6), {"num_threads": 0}, "num_threads is 0"),
        (row(5, 6), {"sample_ids": [1, 2]}, "2 ids for 1 rows"),
        (row(5, 6), {"sample_ids": [-1]}, "-1 at row 0"),
        (row(5, 6), {"out": (np.zeros((1, 2), int), np.zeros((1, 9), int))}, "widths 2 and 9"),
        (row(5, 6), {"out": (np.zeros((2, 9), int), np.zeros((1, 9), int))}, "2 rows, expected 1"),
    ],
)
def test_bad_values_are_named(ids, options, message):
    with pytest.raises(MetroFastError, match=message):
        corrupt_spans(ids, **grouped(**options))


def read_only():
    array = np.zeros((1, 9), np.int64)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([[5, 6]], {}, "ids is a list, expected a numpy array or a torch tensor"),
        (np.array([[0.5]]), {}, "array of float64, expected uint16, uint32, int32 or int64"),
        (np.array([[5]], np.uint64), {}, "array of uint64"),
        (torch.ones(1, 2, device="meta", dtype=torch.int64), {}, "dense CPU tensor"),
        (row(5, 6), {"sample_ids": [0.5]}, "sample_ids has dtype float64"),
        (row(5, 6), {"seed": 0.5}, "seed is a float"),
        (row(5, 6), {"num_threads": 1.5}, "num_threads is a float"),
        (row(5, 6), {"noise_density": "much"}, "noise_density"),
        (
            row(5, 6),
            {"out": (np.zeros((1, 9)), np.zeros((1, 9), int))},
            "expected int64 or int32",
        ),
        (
            row(5, 6),
            {"out": (np.zeros((1, 9), int), np.zeros((1, 9), "i4"))},
            "expected int64 in 2",
        ),
        (row(5, 6), {"out": (np.zeros((1, 9), int), None)}, "out is not a tuple of 2 to 4 arrays"),
        (row(5, 6), {"out": [np.zeros((1, 9), int)] * 5}, "out is not a tuple of 2 to 4 arrays"),
        (row(5, 6), {"dtype": "int16"}, "dtype int16, expected int64 or int32"),
        (row(5, 6), {"noise_mask": np.zeros((1, 2))}, "noise_mask is an array of float64"),
        (row(5, 6), {"noise_mask": np.zeros((1, 3), bool)}, r"expected bool of the shape \(1, 2\)"),
        (row(5, 6), {"word_starts": np.zeros(9)}, "word_starts has dtype float64"),
        (row(5, 6), {"denoisers": [3]}, "denoisers holds a int, expected Denoiser"),
        (row(5, 6), {"out": (np.zeros((1, 9), int), read_only())}, "contiguous .* writable"),
        (row(5, 6), {"out": (np.zeros((9, 1), int).T[:, ::2],) * 2}, "contiguous .* writable"),
    ],
)
def test_wrong_types_are_type_errors(ids, options, message):
    with pytest.raises(TypeError, match=message):
        corrupt_spans(ids, **grouped(**options))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_out_that_shares_memory_is_refused(kind):
    ids, other = kind(np.full((1, 9), 7)), kind(np.zeros((1, 9), np.int64))
    with pytest.raises(MetroFastError, match=r"out\[0\] shares memory with ids"):
        corrupt_spans(ids, out=(ids, other))
    with pytest.raises(MetroFastError, match=r"out\[0\] shares memory with out\[1\]"):
        corrupt_spans(ids, out=(other, other))
    assert (ids == 7).all()
    assert (other == 0).all()


def test_a_batch_that_does_not_fit_into_memory_is_a_memory_error():
    # 2^20 rows of one token, except the last of 2^27: over 2^46 ids with padding.
    ids = np.zeros(1 << 27, np.uint16)
    offsets = np.arange((1 << 20) + 1)
    offsets[-1] = ids.size
    vocabulary = Vocabulary(num_sentinels=1 << 28, sentinel_first=1 << 40)
    with pytest.raises(MemoryError, match="Unable to allocate"):
        corrupt_spans(ids, offsets=offsets, vocabulary=vocabulary)


@settings(max_examples=20)
@given(length=st.integers(-5, 2))
def test_inputs_that_are_too_short_for_any_row(length):
    with pytest.raises(MetroFastError, match="inputs_length is"):
        compute_input_and_target_lengths(length)
