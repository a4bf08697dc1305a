"""Statistics of the draws: exact marginals, equally likely masks, a million rows restored."""

import os
import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given

from metro_fast.ops import Denoiser, SpanLengths, Vocabulary, corrupt_spans
from metro_fast.testing.corrupt_spans import noise_probabilities, restore_row
from metro_fast.testing.noise_laws import to_mask
from metro_fast.testing.numpy_collator import NumpySpanCollator
from metro_fast.testing.restore import restore_batch
from metro_fast.testing.strategies import counters, ragged_rows

SENTINELS = {"sentinel_first": 40_000, "num_sentinels": 701}


def draw_masks(task, rows, length, seed=0):
    """The noise of many rows of one length, bool [rows, length]."""
    ids = np.broadcast_to(np.arange(2, length + 2, dtype=np.uint16), (rows, length))
    vocabulary = Vocabulary(num_sentinels=1000)
    options = {"denoisers": task, "vocabulary": vocabulary, "dtype": "int32"}
    labels = corrupt_spans(ids, seed=seed, **options).labels
    mask = np.zeros((rows, length), bool)
    row, column = np.nonzero((labels >= 2) & (labels < length + 2))
    mask[row, labels[row, column] - 2] = True
    return mask


def assert_distributed(masks, expected):
    """Masks against the probability of every possible mask."""
    from scipy.stats import chisquare

    counts = Counter(mask.tobytes() for mask in masks)
    expected = {np.array(mask).tobytes(): p for mask, p in expected.items()}
    assert counts.keys() <= expected.keys()
    assert sum(expected.values()) == pytest.approx(1)
    observed = np.array([counts[mask] for mask in expected])
    p = np.array([*expected.values()])
    assert chisquare(observed, len(masks) * p / p.sum()).pvalue > 1e-6


def test_marginals_of_t5s_own_rows_are_exact():
    length, rows, share = 568, 200_000, 20_000
    ids = np.broadcast_to(np.arange(2, length + 2, dtype=np.uint16), (share, length))
    counts = np.zeros(length, np.int64)
    for first in range(0, rows, share):
        names = np.arange(first, first + share)
        labels = corrupt_spans(ids, sample_ids=names, seed=1, dtype="int32").labels
        counts += np.bincount(labels[(labels >= 2) & (labels < length + 2)] - 2, minlength=length)
    probability = noise_probabilities(length, 85, 28)
    assert counts.sum() == 85 * rows
    assert (counts[0], counts[-1]) == (0, rows)
    inner = slice(1, length - 1)
    expected = rows * probability[inner]
    z = (counts[inner] - expected) / np.sqrt(expected * (1 - probability[inner]))
    print(f"rms z {np.sqrt((z**2).mean()):.3f}, largest {abs(z).max():.2f}")
    assert 0.9 < np.sqrt((z**2).mean()) < 1.1
    assert abs(z).max() < 5


def test_every_mask_of_t5s_counts_is_equally_likely():
    # 4 of 10 tokens in 2 spans: 3 ways to split the noise, 5 to split the rest.
    task = Denoiser(noise_density=0.4, mean_noise_span_length=2.0)
    masks = {
        tuple(to_mask(([keep, 6 - keep, 0], [noise, 4 - noise]))): 1 / 15
        for keep in range(1, 6)
        for noise in range(1, 4)
    }
    assert_distributed(draw_masks(task, 30_000, 10), masks)


def test_iid_tokens_are_independent():
    masks = {}
    for bits in range(32):
        mask = tuple(bool(bits >> place & 1) for place in range(5))
        masks[mask] = 0.3 ** sum(mask) * 0.7 ** (5 - sum(mask))
    assert_distributed(draw_masks(Denoiser(noise="iid", noise_density=0.3), 50_000, 5), masks)


def test_iid_marginals_and_neighbors_of_a_long_row():
    rows, length, p = 20_000, 200, 0.15
    mask = draw_masks(Denoiser(noise="iid", noise_density=p), rows, length)
    z = (mask.sum(0) - rows * p) / np.sqrt(rows * p * (1 - p))
    assert 0.85 < np.sqrt((z**2).mean()) < 1.15
    assert abs(z).max() < 5
    both = (mask[:, 1:] & mask[:, :-1]).sum(0)
    z = (both - rows * p**2) / np.sqrt(rows * p**2 * (1 - p**2))
    assert abs(z).max() < 5


def test_sampled_spans_fall_into_any_different_gaps():
    # 3 of 8 tokens, lengths 1 and 2: 1+1+1 with probability 1/4, else 1+2 or 2+1 equally often.
    masks = {}
    for lengths, p in (((1, 1, 1), 1 / 4), ((1, 2), 3 / 8), ((2, 1), 3 / 8)):
        choices = [*combinations(range(6), len(lengths))]
        for gaps in choices:
            keep = np.diff([0, *gaps, 5]).tolist()
            masks[tuple(to_mask((keep, [*lengths])))] = p / len(choices)
    assert len(masks) == 20 + 15 + 15
    lengths = SpanLengths.uniform(1, 2)
    task = Denoiser(noise="sampled_spans", noise_density=0.375, span_lengths=lengths)
    assert_distributed(draw_masks(task, 60_000, 8), masks)


def test_sampled_lengths_follow_their_table():
    lengths = SpanLengths.geometric(0.2, 10)
    task = Denoiser(noise="sampled_spans", noise_density=0.15, span_lengths=lengths)
    mask = draw_masks(task, 2000, 600)
    assert (mask.sum(1) == 90).all()
    changes = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    runs = np.nonzero(changes == -1)[1] - np.nonzero(changes == 1)[1]
    shares = np.bincount(runs, minlength=11)[1:] / len(runs)
    # The budget cuts one span per row, out of about 24; all others follow the table.
    assert abs(shares - np.array(lengths) / sum(lengths)).max() < 1 / 24


def test_prefixes_are_uniform():
    # Of 21 tokens at 30 %: round(0.4 * 20) = 8 to 20 are kept.
    masks = {tuple([False] * kept + [True] * (21 - kept)): 1 / 13 for kept in range(8, 21)}
    task = Denoiser(noise="prefix", noise_density=0.3)
    assert_distributed(draw_masks(task, 30_000, 21), masks)


def test_regular_spans_have_a_uniform_length_and_offset():
    # Spans of 1 to 5 at 15 %, every round(span / 0.15) tokens.
    masks = Counter()
    for span, period in zip(range(1, 6), (7, 13, 20, 27, 33), strict=True):
        for offset in range(period):
            mask = (np.arange(70) + offset) % period < span
            masks[tuple(mask.tolist())] += 1 / 5 / period
    assert len(masks) == 100
    assert_distributed(draw_masks(Denoiser(noise="regular_spans"), 50_000, 70), masks)


def any_task(rng):
    """A task of a random law with random options, whose rows restore."""
    noise = rng.choice(
        ["random_spans", "iid", "regular_spans", "prefix", "sampled_spans", "metro_t0"]
    )
    low, high = {"prefix": (0.0, 0.5), "regular_spans": (0.01, 0.95)}.get(noise, (0.0, 0.95))
    shortest = int(rng.integers(1, 4))
    return Denoiser(
        noise=str(noise),
        noise_density=float(rng.uniform(low, high)),
        mean_noise_span_length=float(rng.uniform(1, 20)),
        compat=str(rng.choice(["t5", "hf"])),
        span_lengths=(
            SpanLengths.geometric(float(rng.uniform(0.1, 1)), 10)
            if noise == "sampled_spans"
            else None
        ),
        span_length_range=(shortest, shortest + int(rng.integers(0, 5))),
        max_span_length=int(rng.integers(1, 7)),
        empty_probability=float(rng.uniform(0, 0.3)),
        upstream=bool(rng.integers(2)),
    )


def test_random_rows_restore_to_their_source():
    # METRO_FAST_FULL=1 makes them a million, which takes half a minute.
    rows = 1_000_000 if os.environ.get("METRO_FAST_FULL") == "1" else 100_000
    share, rng, began = 4000, np.random.default_rng(2), time.perf_counter()
    tokens, laws = 0, Counter()
    for first in range(0, rows, share):
        offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 701, share))])
        ids = rng.integers(2, 32_000, offsets[-1], dtype=np.uint16)
        tasks = [any_task(rng) for _ in range(50)]
        names = np.arange(first, first + share)
        batch = corrupt_spans(
            ids,
            offsets=offsets,
            sample_ids=names,
            denoisers=tasks,
            seed=3,
            vocabulary=Vocabulary(**SENTINELS),
        )
        restored, ends = restore_batch(*batch[:4], **SENTINELS)
        assert np.array_equal(restored, ids)
        assert np.array_equal(ends, offsets)
        tokens += len(ids)
        laws.update(tasks[task].noise for task in batch.denoisers.tolist())
    seconds = time.perf_counter() - began
    print(f"{rows:,} rows, {tokens:,} tokens restored in {seconds:.1f} s: {dict(laws)}")
    assert len(laws) == 6


@given(rows=ragged_rows(longest=120), seed=counters)
def test_restoring_a_batch_is_restoring_its_rows(rows, seed):
    ids, offsets, _ = rows
    batch = corrupt_spans(ids, offsets=offsets, seed=seed)
    restored, ends = restore_batch(*batch[:4])
    assert np.array_equal(ends, offsets)
    for row in range(len(offsets) - 1):
        inputs = batch.input_ids[row, : batch.input_lengths[row]].tolist()
        labels = batch.labels[row, : batch.label_lengths[row]].tolist()
        expected = restore_row(inputs, labels, range(32099, 31999, -1))
        assert restored[offsets[row] : offsets[row + 1]].tolist() == expected


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ([5, 99, 8, 1], [99, 6, 98, 7, 1], "the sides have different sentinels"),
        ([5, 98, 8, 1], [98, 6, 1], "sentinels are not in order"),
        ([5, 99, 8, 98, 1], [99, 98, 6, 99, 1], "sentinels are not in order"),
        ([5, 99, 8, 1], [6, 99, 7, 1], "a target starts without a sentinel"),
        ([5, 8, 1], [99, 6, 1], "not in the inputs"),
        ([5, 99, 8], [99, 6, 1], "no EOS"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_wrong_batch_is_not_restored(inputs, labels, message, place):
    good = [5, 99, 8, 1], [99, 6, 1]
    pairs = [good, (inputs, labels)] if place else [(inputs, labels), good]
    lengths = [np.array([len(pair[side]) for pair in pairs]) for side in (0, 1)]
    sides = [
        np.array([pair[side] + [0] * (9 - len(pair[side])) for pair in pairs]) for side in (0, 1)
    ]
    with pytest.raises(AssertionError, match=message):
        restore_batch(*sides, *lengths, sentinel_first=99, num_sentinels=9)


@pytest.mark.parametrize("length", [2, 40, 568])
def test_the_numpy_collator_draws_t5s_law(length):
    rows = 4000
    ids = np.broadcast_to(np.arange(2, length + 2), (rows, length))
    inputs, labels = NumpySpanCollator(seed=6)(ids)
    native = corrupt_spans(ids)
    assert inputs.shape == native.input_ids.shape
    assert labels.shape == native.labels.shape
    assert (inputs.dtype, labels.dtype) == (np.int64, np.int64)
    assert np.array_equal(restore_batch(inputs, labels, *native[2:4])[0], ids.reshape(-1))
    hidden = labels[(labels >= 2) & (labels < length + 2)] - 2
    noise = len(hidden) // rows
    spans = labels.shape[1] - 1 - noise
    probability = noise_probabilities(length, noise, spans)
    counts = np.bincount(hidden, minlength=length)
    scale = np.sqrt(rows * probability * (1 - probability)) + 1e-6
    assert (abs(counts - rows * probability) / scale).max() < 5
