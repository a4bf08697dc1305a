"""Options of denoisers: UL2's and METRO-T0's tables; every option outside its domain is named."""

from collections import Counter

import numpy as np
import pytest

from grouped import grouped
from metro_fast import MetroFastError, _core
from metro_fast.ops import (
    Denoiser,
    SpanCorruption,
    SpanLengths,
    Vocabulary,
    corrupt_spans,
    metro_t0_baseline,
    ul2_denoisers,
)
from metro_fast.ops.corrupt_spans import SpanBatch, corrupt_rows
from metro_fast.ops.draws import Draw
from metro_fast.ops.outputs import Outputs, finish
from metro_fast.ops.token_rows import TokenRows
from metro_fast.testing.corrupt_spans import choose_denoiser

IDS = np.arange(100, 140)[None]


def test_ul2s_table():
    # arXiv 2205.05131, table 1: two R, four X, one S.
    tasks = ul2_denoisers(r_token_id=11, x_token_id=12, s_token_id=13)
    assert Counter(task.prefix_token_id for task in tasks) == {11: 2, 12: 4, 13: 1}
    spans = [(t.mean_noise_span_length, t.noise_density) for t in tasks if t.noise != "prefix"]
    assert spans == [(3, 0.15), (8, 0.15), (3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)]
    assert {task.weight for task in tasks} == {1.0}
    assert (tasks[-1].noise, tasks[-1].noise_density) == ("prefix", 0.25)
    assert {task.prefix_token_id for task in ul2_denoisers()} == {None}


def test_the_mode_token_is_the_first_input_of_its_task():
    modes = {"r_token_id": 11, "x_token_id": 12, "s_token_id": 13}
    batch = corrupt_spans(np.full((4000, 60), 7), denoisers=ul2_denoisers(**modes), seed=1)
    expected = np.array([11, 11, 12, 12, 12, 12, 13])[batch.denoisers]
    assert np.array_equal(batch.input_ids[:, 0], expected)
    assert not np.isin(batch.input_ids[:, 1:], (11, 12, 13)).any()
    assert not np.isin(batch.labels, (11, 12, 13)).any()
    # With 60 tokens, 9 are noise at 15 % and 30 at 50 %.
    hidden = (batch.labels == 7).sum(1)
    assert {n: set(hidden[batch.denoisers == n].tolist()) for n in range(6)} == {
        n: {9} if n in (0, 1, 4) else {30} for n in range(6)
    }
    assert set(np.bincount(batch.denoisers, minlength=7) // 400) == {1}


@pytest.mark.parametrize("sentinel", [False, True])
def test_prefix_lm_splits_a_row_in_two(sentinel):
    ids = np.tile(np.arange(100, 200), (5000, 1))
    task = ul2_denoisers(s_token_id=13, prefix_sentinel=sentinel)[-1]
    batch = corrupt_spans(ids, denoisers=task)
    mark = [32099] if sentinel else []
    targets = []
    for row in range(200):
        inputs = batch.input_ids[row, : batch.input_lengths[row]].tolist()
        labels = batch.labels[row, : batch.label_lengths[row]].tolist()
        kept = len(inputs) - 2 - len(mark)
        assert inputs == [13, *range(100, 100 + kept), *mark, 1]
        assert labels == [*mark, *range(100 + kept, 200), 1]
    targets = batch.label_lengths - 1 - len(mark)
    # The prefix is uniform on round(0.5 * 99) = 50 to 99 tokens.
    assert set(targets.tolist()) == set(range(1, 51))
    assert abs(targets.mean() - 25.5) < 5 * np.sqrt((50**2 - 1) / 12 / 5000)


def test_metro_t0s_baseline_agrees_with_its_yaml():
    task = metro_t0_baseline()
    assert (task.noise, task.noise_density, task.max_span_length) == ("metro_t0", 0.15, 5)
    assert (task.empty_probability, task.upstream) == (0.1, False)
    assert metro_t0_baseline(upstream=True).upstream


@pytest.mark.parametrize("how", [list, tuple, iter])
def test_tasks_come_in_any_sequence(how):
    tasks = how([Denoiser(weight=0), Denoiser(noise="iid")])
    assert corrupt_spans(IDS, denoisers=tasks).denoisers.tolist() == [1]


def corrupt_in_phases(corruption, ids, phases, seed=0, threads=1):
    options = _core.SpanOptions(corruption, Vocabulary())
    rows = TokenRows.read(ids, None, None, phases=phases)
    outputs, draw = Outputs.read(None, "int64", {}), Draw(seed, 0, threads)
    return finish(SpanBatch, corrupt_rows(options, rows, outputs, draw), tensor=False)


def test_rows_are_chosen_by_the_weights_of_their_phase(simd):
    weights = [[1.0, 0.0, 0.0], [1.0, 2.0, 5.0], [0.0, 0.0, 1.0]]
    corruption = SpanCorruption(denoisers=[Denoiser()] * 3, weights=weights)
    phases = np.arange(600) % 3
    batch = corrupt_in_phases(corruption, np.full((600, 9), 7), phases, seed=4, threads=3)
    expected = [choose_denoiser(weights[phase], row, 4, 0) for row, phase in enumerate(phases)]
    assert batch.denoisers.tolist() == expected
    assert set(batch.denoisers[phases == 1].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (None, "weights of 2 phases, but the phase of no row is known"),
        ([0], "phases holds 1 numbers for 2 rows"),
        ([0, 2], "phases is 2, expected 0 to 1"),
        ([0, -1], "phases is -1, expected 0 to 1"),
    ],
)
def test_bad_phases_are_named(phases, message):
    corruption = SpanCorruption(denoisers=Denoiser(), weights=[[1.0], [2.0]])
    with pytest.raises(MetroFastError, match=message):
        corrupt_in_phases(corruption, np.full((2, 9), 7), phases)


BAD_TASKS = [
    ({"noise": "spans"}, 'noise is "spans"'),
    ({"noise_density": 1.0}, "noise_density is 1"),
    ({"noise_density": float("nan")}, "noise_density is NaN"),
    ({"noise": "prefix", "noise_density": 0.51}, "noise_density is 0.51, .* prefix"),
    ({"noise": "regular_spans", "noise_density": 0.0}, "noise_density is 0, .* regular"),
    # A distance between spans of 2^32 or more tokens cannot be drawn.
    ({"noise": "regular_spans", "noise_density": 1e-9}, "noise_density is 0.000000001"),
    ({"mean_noise_span_length": 0.99}, "mean_noise_span_length is 0.99"),
    ({"mean_noise_span_length": 2.0**31}, "mean_noise_span_length is 2147483648"),
    ({"compat": "tf"}, 'compat is "tf"'),
    ({"noise": "regular_spans", "span_length_range": (0, 3)}, r"span_length_range is \(0, 3\)"),
    ({"noise": "regular_spans", "span_length_range": (4, 3)}, r"span_length_range is \(4, 3\)"),
    ({"noise": "regular_spans", "span_length_range": (-1, 3)}, "span_length_range is -1"),
    ({"noise": "regular_spans", "span_length_range": (1, 2**21)}, "span_length_range is"),
    ({"noise": "metro_t0", "max_span_length": 0}, "max_span_length is 0"),
    ({"noise": "metro_t0", "max_span_length": -1}, "max_span_length is -1"),
    ({"noise": "metro_t0", "max_span_length": 2**40}, "max_span_length is 1099511627776"),
    ({"noise": "metro_t0", "empty_probability": 1.0}, "empty_probability is 1"),
    ({"noise": "metro_t0", "empty_probability": -0.1}, "empty_probability is -0.1"),
    ({"inputs": "keep"}, 'inputs is "keep"'),
    ({"targets": "one_sentinel"}, 'targets is "one_sentinel"'),
    ({"prefix_token_id": -1}, "prefix_token_id is -1"),
    ({"weight": -1.0}, r"weights is \[-1.0\]"),
    ({"weight": float("nan")}, r"weights is \[NaN\]"),
    ({"weight": float("inf")}, r"weights is \[inf\]"),
    ({"weight": 0.0}, "weights is .* not all 0"),
    (
        {"noise": "sampled_spans"},
        "span_lengths is None, expected .* 'sampled_spans'",
    ),
    (
        {"span_lengths": SpanLengths.fixed(3)},
        "span_lengths is Span.* with no other",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD_TASKS)
def test_bad_values_of_a_task_are_named(values, message):
    with pytest.raises(MetroFastError, match=message):
        corrupt_spans(IDS, denoisers=[Denoiser(), Denoiser(**values)][-1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sentinel_first": -1}, "sentinel_first is -1"),
        ({"sentinel_step": 0}, "sentinel_step is 0"),
        ({"num_sentinels": -1}, "num_sentinels is -1"),
        ({"num_sentinels": 2**32}, "num_sentinels is 4294967296"),
        ({"on_sentinel_shortage": "reuse"}, "on_sentinel_shortage is 'reuse'"),
        ({"eos_token_id": 2**62}, "eos_token_id is 4611686018427387904"),
        ({"target_end_token_id": -1}, "target_end_token_id is -1"),
        ({"pad_token_id": -100}, "pad_token_id is -100"),
        ({"decoder_start_token_id": -1}, "decoder_start_token_id is -1"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        (
            {"vocab_size": 120, "sentinel_first": 119, "num_sentinels": 9},
            "ids has 111 at .* 11, which",
        ),
        (
            {"vocab_size": 120, "sentinel_first": 99},
            "ids has 120 at row 0, column 20, .* 119 at most",
        ),
        # A sentinel or an end beyond the vocabulary has no embedding.
        ({"vocab_size": 32_000}, "the highest sentinel is 32099, expected an id of 31999 at most"),
        ({"vocab_size": 40_000, "eos_token_id": 40_000}, "eos_token_id is 40000"),
        ({"vocab_size": 40_000, "target_end_token_id": 40_001}, "target_end_token_id is 40001"),
        ({"vocab_size": 40_000, "pad_token_id": 40_002}, "pad_token_id is 40002"),
        (
            {"vocab_size": 40_000, "decoder_start_token_id": 40_003},
            "decoder_start_token_id is 40003",
        ),
        (
            {"vocab_size": 40_000, "denoisers": Denoiser(prefix_token_id=40_004)},
            "prefix_token_id is 40004, expected an id of 39999 at most",
        ),
        ({"max_input_length": 1}, "max_input_length is 1, expected 2"),
        ({"max_target_length": 0}, "max_target_length is 0"),
        ({"denoisers": []}, "denoisers is 0, expected 1"),
        ({"denoisers": Denoiser(), "noise_density": 0.2}, "noise_density and .* give denoisers"),
        ({"eos_token_id": 2**31, "dtype": "int32"}, "eos_token_id is 2147483648"),
    ],
)
def test_bad_options_are_named(values, message):
    with pytest.raises(MetroFastError, match=message):
        corrupt_spans(IDS, **grouped(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"noise": 3},
        {"noise_density": "0.15"},
        {"mean_noise_span_length": None},
        {"compat": None},
        {"noise": "sampled_spans", "span_lengths": 3},
        {"noise": "regular_spans", "span_length_range": (1, 2, 3)},
        {"noise": "metro_t0", "max_span_length": 1.5},
        {"noise": "metro_t0", "empty_probability": "0.1"},
        {"noise": "metro_t0", "upstream": 1},
        {"inputs": None},
        {"targets": 3},
        {"prefix_token_id": 1.5},
    ],
    ids=lambda values: [*values][-1],
)
def test_wrong_types_of_a_task_are_type_errors_that_name_it(values):
    with pytest.raises(TypeError, match=[*values][-1]):
        corrupt_spans(IDS, denoisers=Denoiser(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"sentinel_first": 0.5},
        {"num_sentinels": "100"},
        {"eos_token_id": 1.0},
        {"target_end_token_id": "</s>"},
        {"pad_token_id": None},
        {"decoder_start_token_id": 0.5},
        {"vocab_size": "many"},
        {"word_starts": np.zeros((2, 2), bool)},
        {"special_token_ids": [0.5]},
        {"max_input_length": 0.5},
        {"max_target_length": "long"},
        {"denoisers": ["random_spans"]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_wrong_types_of_options_are_type_errors_that_name_them(values):
    with pytest.raises(TypeError, match=next(iter(values))):
        corrupt_spans(IDS, **grouped(**values))


@pytest.mark.parametrize("weights", [[], [[1.0]], [[1.0, -1.0]], [[1.0, 1.0], [0.0, 0.0]]])
def test_weights_of_a_phase_fit_the_tasks(weights):
    with pytest.raises(MetroFastError, match="weights is"):
        corrupt_spans(
            IDS, corruption=SpanCorruption(denoisers=[Denoiser(), Denoiser()], weights=weights)
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpanLengths([]),
        lambda: SpanLengths([0.0]),
        lambda: SpanLengths([1.0, -1.0]),
        lambda: SpanLengths([float("nan")]),
        lambda: SpanLengths.fixed(0),
        lambda: SpanLengths.uniform(3, 2),
        lambda: SpanLengths.geometric(0.0, 3),
        lambda: SpanLengths.geometric(0.5, 0),
        lambda: SpanLengths.poisson(0),
        lambda: SpanLengths.poisson(float("nan")),
    ],
)
def test_bad_span_lengths_are_refused(make):
    with pytest.raises(MetroFastError, match="expected"):
        make()
