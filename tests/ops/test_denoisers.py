"""corrupt_spans with denoisers: every law and layout bit-equal to its reference, at every level."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grouped import grouped
from metro_fast import MetroFastError
from metro_fast.ops import Denoiser, SpanLengths, Vocabulary, corrupt_spans
from metro_fast.ops.denoiser import Inputs, Noise, Targets
from metro_fast.testing.corrupt_spans import choose_denoiser, corrupt_row
from metro_fast.testing.strategies import counters, denoisers, ragged_rows

# Room for one sentinel per token of the longest row.
SENTINELS = {"sentinel_first": 32_499, "num_sentinels": 500}
LAWS = [
    Denoiser(),
    Denoiser(compat="hf", noise_density=0.6, mean_noise_span_length=1.5),
    Denoiser(noise="iid", noise_density=0.3),
    Denoiser(noise="regular_spans"),
    Denoiser(noise="prefix", noise_density=0.25),
    *(
        Denoiser(noise="sampled_spans", span_lengths=lengths)
        for lengths in (
            SpanLengths.fixed(3),
            SpanLengths.uniform(2, 5),
            SpanLengths.geometric(0.2, 10),
            SpanLengths.poisson(3),
        )
    ),
    Denoiser(noise="metro_t0"),
    Denoiser(noise="metro_t0", upstream=True),
]
WHOLE_IF_SINGLE = ("random_spans", "prefix", "sampled_spans")


@st.composite
def options(draw):
    """Options besides the tasks; op and reference have the same names for them."""
    chosen = dict(SENTINELS)
    if draw(st.booleans()):
        chosen |= {"on_sentinel_shortage": "clamp", "num_sentinels": draw(st.integers(1, 9))}
    if draw(st.booleans()):
        chosen |= {"sentinel_first": 32_000, "sentinel_step": 1}
    if draw(st.booleans()):
        table = np.random.default_rng(draw(st.integers(0, 99)))
        chosen["word_starts"] = table.random(draw(st.integers(1, 31_500))) < 0.4
    chosen["special_token_ids"] = draw(st.sampled_from(((), range(2, 6_000, 2), range(900))))
    chosen["eos_token_id"] = draw(st.sampled_from((None, 1)))
    chosen["target_end_token_id"] = draw(st.sampled_from((None, 31_998)))
    chosen["max_input_length"] = draw(st.none() | st.integers(2, 90))
    chosen["max_target_length"] = draw(st.none() | st.integers(2, 40))
    return chosen


def padded(rows, fill):
    width = max(map(len, rows))
    return [row + [fill] * (width - len(row)) for row in rows]


def assert_equal(batch, expected, *, pad=0, start=None):
    """A batch with the rows (inputs, labels), and everything that follows from them."""
    inputs, labels = zip(*expected, strict=True)
    assert batch.input_ids.tolist() == padded(inputs, pad)
    assert batch.labels.tolist() == padded(labels, -100)
    assert batch.input_lengths.tolist() == [len(row) for row in inputs]
    assert batch.label_lengths.tolist() == [len(row) for row in labels]
    if batch.attention_mask is not None:
        assert batch.attention_mask.tolist() == padded([[1] * len(row) for row in inputs], 0)
    if start is not None:
        width = batch.labels.shape[1]
        moved = [([start, *row] + [pad] * width)[:width] for row in labels]
        assert batch.decoder_input_ids.tolist() == moved


@settings(max_examples=200)
@given(
    rows=ragged_rows(longest=200),
    tasks=st.lists(denoisers(), min_size=1, max_size=4),
    given_options=options(),
    seed=counters,
    epoch=counters,
    threads=st.sampled_from((1, 3)),
    dtype=st.sampled_from(("int32", "int64")),
    pad=st.integers(0, 9),
    start=st.none() | st.integers(0, 9),
    mask=st.booleans(),
)
def test_equals_the_reference(
    simd, rows, tasks, given_options, seed, epoch, threads, dtype, pad, start, mask
):
    ids, offsets, names = rows
    batch = corrupt_spans(
        ids,
        offsets=offsets,
        sample_ids=names,
        seed=seed,
        epoch=epoch,
        num_threads=threads,
        dtype=dtype,
        attention_mask=mask,
        **grouped(denoisers=tasks, pad_token_id=pad, decoder_start_token_id=start, **given_options),
    )
    sources = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    same = grouped(denoisers=tasks, seed=seed, epoch=epoch, **given_options)
    expected = [corrupt_row(s, n, **same) for s, n in zip(sources, names.tolist(), strict=True)]
    assert_equal(batch, expected, pad=pad, start=start)
    chosen = [choose_denoiser([1] * len(tasks), n, seed, epoch) for n in names.tolist()]
    assert batch.denoisers.tolist() == chosen
    assert batch.input_ids.dtype == batch.labels.dtype == dtype
    assert (batch.attention_mask is None, batch.decoder_input_ids is None) == (
        not mask,
        start is None,
    )


@pytest.mark.parametrize("inputs", get_args(Inputs))
@pytest.mark.parametrize("targets", get_args(Targets))
@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.noise}-{law.compat}-{law.upstream}")
def test_every_law_in_every_layout(simd, law, inputs, targets):
    ids = np.random.default_rng(0).integers(2, 30_000, (3, 300))
    task = Denoiser(**{**vars(law), "inputs": inputs, "targets": targets})
    options = {"denoisers": task, "vocabulary": Vocabulary(**SENTINELS), "seed": 5}
    batch = corrupt_spans(ids, **options)
    rows = [corrupt_row(r, n, **options) for n, r in enumerate(ids)]
    assert_equal(batch, rows)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.noise}-{law.compat}-{law.upstream}")
def test_rows_of_thousands_of_tokens(simd, law):
    lengths = (5000, 4096, 1, 2049)
    offsets = np.cumsum([0, *lengths])
    ids = np.random.default_rng(1).integers(2, 30_000, offsets[-1])
    vocabulary = Vocabulary(sentinel_first=40_000, num_sentinels=5000)
    options = {"vocabulary": vocabulary, "denoisers": law, "seed": 6}
    batch = corrupt_spans(ids, offsets=offsets, num_threads=3, **options)
    sources = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert_equal(batch, [corrupt_row(row, n, **options) for n, row in enumerate(sources)])


@given(rows=ragged_rows(longest=150), task=denoisers(), given_options=options(), data=st.data())
def test_a_mask_of_the_caller_replaces_the_draw(simd, rows, task, given_options, data):
    ids, offsets, _ = rows
    share = data.draw(st.floats(0, 1))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(ids.size) < share
    same = grouped(denoisers=task, **given_options)
    batch = corrupt_spans(ids, offsets=offsets, noise_mask=mask, num_threads=3, **same)
    pairs = [(ids[a:b].tolist(), mask[a:b]) for a, b in pairwise(offsets)]
    assert_equal(batch, [corrupt_row(ids, 0, noise_mask=mask, **same) for ids, mask in pairs])


def test_rows_are_chosen_by_their_weights_and_never_by_a_weight_of_0(simd):
    from scipy.stats import chisquare

    weights = np.array([0.0, 1.0, 0.0, 3.0, 2.5, 0.0])
    tasks = [Denoiser(weight=weight) for weight in weights]
    rows = 100_000
    chosen = corrupt_spans(np.full((rows, 2), 7), denoisers=tasks, seed=8).denoisers
    counts = np.bincount(chosen, minlength=len(weights))
    assert (counts[weights == 0] == 0).all()
    expected = rows * weights / weights.sum()
    assert chisquare(counts[weights > 0], expected[weights > 0]).pvalue > 1e-6
    assert chosen[:500].tolist() == [choose_denoiser(weights, row, 8, 0) for row in range(500)]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("extra", [0, 5])
def test_arrays_of_the_caller_are_written_whole_and_returned(simd, kind, dtype, count, extra):
    ids = np.random.default_rng(3).integers(2, 30_000, 700)
    vocabulary = Vocabulary(pad_token_id=4, decoder_start_token_id=6)
    options = {"offsets": [0, 100, 101, 400, 700], "vocabulary": vocabulary}
    plain = corrupt_spans(ids, attention_mask=True, dtype=dtype, **options)
    names = ("input_ids", "labels", "attention_mask", "decoder_input_ids")[:count]
    fills = {"input_ids": 4, "labels": -100, "attention_mask": 0, "decoder_input_ids": 4}
    out = [
        kind(np.full((4, getattr(plain, name).shape[1] + extra), 77, dtype=dtype)) for name in names
    ]
    batch = corrupt_spans(ids, out=tuple(out), num_threads=3, **options)
    for name, array in zip(names, out, strict=True):
        assert getattr(batch, name) is array
        width = getattr(plain, name).shape[1]
        expected = getattr(plain, name)
        if name == "decoder_input_ids" and extra:
            # With one column more, the decoder also sees the last id of the longest row.
            longest = plain.label_lengths == width
            assert np.array_equal(np.asarray(array)[longest, width], plain.labels[longest, -1])
            assert (np.asarray(array)[~longest, width] == 4).all()
            expected, width = np.asarray(array)[:, : width + 1], width + 1
        assert np.array_equal(np.asarray(array)[:, :width], expected)
        assert (np.asarray(array)[:, width:] == fills[name]).all()


@pytest.mark.parametrize("noise", get_args(Noise))
@pytest.mark.parametrize("density", [0.0, 1e-9, 0.5, 0.999_999_999])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_rows_of_a_few_tokens(simd, noise, density, length):
    if noise == "prefix":
        density = min(density, 0.5)
    if noise == "regular_spans":
        density = max(density, 1e-8)
    lengths = SpanLengths.uniform(1, 4) if noise == "sampled_spans" else None
    task = Denoiser(noise=noise, noise_density=density, span_lengths=lengths)
    ids = np.arange(10, 10 + length)
    names = np.arange(40)
    batch = corrupt_spans(np.tile(ids, (40, 1)), denoisers=task)
    assert_equal(batch, [corrupt_row(ids.tolist(), n, denoisers=task) for n in names.tolist()])
    kept = batch.input_ids[(batch.input_ids >= 10) & (batch.input_ids < 13)]
    assert kept.size + ((batch.labels >= 10) & (batch.labels < 13)).sum() == 40 * length
    # A prefix leaves out at least one token, if there are two.
    if (density == 0 and noise != "prefix") or (length == 1 and noise in WHOLE_IF_SINGLE):
        assert kept.size == 40 * length


@pytest.mark.parametrize("noise", get_args(Noise))
def test_a_row_without_tokens_is_refused(noise):
    lengths = SpanLengths.fixed(1) if noise == "sampled_spans" else None
    with pytest.raises(MetroFastError, match="row 1 runs from offset 1 to 1"):
        corrupt_spans(
            np.array([5, 6]), offsets=[0, 1, 1, 2], denoisers=Denoiser(noise, span_lengths=lengths)
        )


def test_a_side_without_ids_has_no_columns(simd):
    ids, hidden = np.full((3, 9), 7), np.ones((3, 9), bool)
    drop = Denoiser(inputs="drop", targets="drop")
    vocabulary = Vocabulary(decoder_start_token_id=0)
    options = {"denoisers": drop, "eos_token_id": None, "attention_mask": True}
    batch = corrupt_spans(ids, noise_mask=hidden, vocabulary=vocabulary, **options)
    assert (batch.input_ids.shape, batch.attention_mask.shape) == ((3, 0), (3, 0))
    assert np.array_equal(batch.labels, ids)
    batch = corrupt_spans(ids, noise_mask=~hidden, vocabulary=vocabulary, **options)
    assert (batch.labels.shape, batch.decoder_input_ids.shape) == ((3, 0), (3, 0))
    assert np.array_equal(batch.input_ids, ids)
    assert batch.label_lengths.tolist() == [0, 0, 0]
