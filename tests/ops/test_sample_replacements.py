"""sample_replacements: bit-equal to its reference, true to the softmax, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chi2

from metro_fast import MetroFastError
from metro_fast.ops import sample_replacements
from metro_fast.testing.sample_replacements import allowed, sample_row, weights
from metro_fast.testing.strategies import counters

finite = (
    st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-40, 40, width=32) | st.just(-np.inf)
)


def normal(rows, vocabulary, scale=3.0):
    return (np.random.default_rng(0).standard_normal((rows, vocabulary)) * scale).astype(np.float32)


@given(
    logits=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(2, 600)), elements=finite
    ),
    temperature=st.floats(0.01, 100),
    seed=counters,
    epoch=counters,
    name=counters,
    position=st.integers(0, 2**32 - 1),
    threads=st.integers(1, 3),
    limits=st.data(),
)
def test_equals_the_reference(
    simd, logits, temperature, seed, epoch, name, position, threads, limits
):
    logits[:, 0] = 1.0
    some = st.integers(1, logits.shape[1] - 1)
    top_k = limits.draw(st.none() | st.integers(1, 2 * logits.shape[1]))
    forbidden = limits.draw(st.none() | st.lists(some, max_size=9))
    each = st.lists(some, min_size=len(logits), max_size=len(logits))
    excluded = limits.draw(st.none() | each)
    names = (np.full(len(logits), name) - np.arange(len(logits))) & (2**63 - 1)
    positions = np.full(len(logits), position)
    options = {"temperature": temperature, "seed": seed, "epoch": epoch}
    ids = sample_replacements(
        logits,
        sample_ids=names,
        positions=positions,
        num_threads=threads,
        top_k=top_k,
        forbidden=forbidden,
        excluded=excluded,
        **options,
    )
    expected = []
    for index, (row, n) in enumerate(zip(logits, names.tolist(), strict=True)):
        original = excluded[index] if excluded else None
        kept = allowed(row, top_k=top_k, forbidden=forbidden or (), excluded=original)
        expected.append(sample_row(kept, n, position, **options))
    assert ids.dtype == np.int64
    assert ids.tolist() == expected


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_total_variation_from_the_float64_softmax(temperature, scale, dtype):
    row = torch.from_numpy(normal(1, 32_128, scale)).to(dtype)[0]
    ours = weights(row.float().numpy(), temperature).astype(np.float64)
    exact = torch.softmax(row.double() / temperature, 0).numpy()
    assert abs(ours / ours.sum() - exact).sum() / 2 <= 2**-20


def test_total_variation_at_the_worst_shape_of_the_bound():
    # One likely token and a quarter million that share the rest: the largest mean distance.
    vocabulary = 1 << 18
    row = np.random.default_rng(1).uniform(-11.5, -10.5, vocabulary).astype(np.float32)
    row[7] = 0.1
    for temperature in (0.9, 1.0, 1.1):
        ours = weights(row, temperature).astype(np.float64)
        exact = np.exp((row.astype(np.float64) - row[7]) / temperature)
        assert abs(ours / ours.sum() - exact / exact.sum()).sum() / 2 <= 2**-20


SHAPES = {
    "normal": lambda random: random.standard_normal(64),
    "flat": lambda random: random.uniform(0, 0.01, 300),
    "steep": lambda random: -0.4 * np.arange(20.0),
    "two halves": lambda random: np.repeat([0.0, -np.log(2), -3.7], [2, 30, 260]),
}


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("shape", SHAPES)
def test_frequencies_follow_the_softmax(shape, temperature):
    draws = 100_000
    row = SHAPES[shape](np.random.default_rng(2)).astype(np.float32)
    rows = np.broadcast_to(row, (draws, row.size)).copy()
    ids = sample_replacements(rows, positions=np.arange(draws), seed=5, temperature=temperature)
    power = np.exp(row.astype(np.float64) / temperature)
    expected = draws * power / power.sum()
    chi = ((np.bincount(ids, minlength=row.size) - expected) ** 2 / expected).sum()
    freedom = row.size - 1
    low, high = chi2.ppf([1e-6, 1 - 1e-6], freedom)
    assert low < chi < high


def drawn_by(level, logits, monkeypatch):
    monkeypatch.setenv("METRO_FAST_SIMD", level)
    return sample_replacements(logits, seed=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_instruction_set_draws_the_same(simd, monkeypatch, dtype):
    random = np.random.default_rng(4)
    for vocabulary in (1, 2, 15, 16, 17, 255, 256, 257, 511, 1_000, 1_500):
        # Rows that are flat, that are steep, and that are mostly -inf.
        logits = random.normal(0, 1, (55, vocabulary)) * random.choice([0.01, 1, 20], (55, 1))
        logits[random.random(logits.shape) < random.choice([0, 0.9], (55, 1))] = -np.inf
        logits[np.arange(55), random.integers(0, vocabulary, 55)] = 1
        rows = torch.from_numpy(logits).to(dtype)
        expected = drawn_by("scalar", rows, monkeypatch)
        assert torch.equal(drawn_by(simd, rows, monkeypatch), expected)


def test_a_million_rows_in_every_instruction_set(simd, monkeypatch):
    random = np.random.default_rng(5)
    for scale in (0.1, 1, 5, 30):
        rows = torch.from_numpy(random.normal(0, scale, (250_000, 37)).astype(np.float32))
        expected = drawn_by("scalar", rows, monkeypatch)
        assert torch.equal(drawn_by(simd, rows, monkeypatch), expected)


def test_the_likeliest_are_chosen_among_the_tokens_that_are_left():
    # The 7 and the 6 may not be drawn, so that the top three are 5, 4 and the two that equal 3.
    row = np.array([3, 7, 5, 6, 4, 3, 2, 1], np.float32)
    rows = np.broadcast_to(row, (4_000, 8)).copy()
    options = {"forbidden": [1], "excluded": np.full(4_000, 3)}
    ids = sample_replacements(rows, top_k=3, temperature=9.0, **options)
    assert set(ids.tolist()) == {0, 2, 4, 5}
    assert set(sample_replacements(rows, top_k=1, **options).tolist()) == {2}
    assert set(sample_replacements(rows, top_k=99, temperature=99, **options).tolist()) == {
        0, 2, 4, 5, 6, 7,
    }  # fmt: skip


def test_forbidden_logits_are_not_looked_at():
    logits = normal(3, 40)
    expected = sample_replacements(allowed_rows(logits, [7, 9]), seed=1)
    logits[:, 7], logits[:, 9] = np.nan, np.inf
    assert np.array_equal(sample_replacements(logits, forbidden=[9, 7], seed=1), expected)
    assert np.isnan(logits[:, 7]).all(), "the logits are left as they were"


def allowed_rows(logits, forbidden):
    return np.stack([allowed(row, forbidden=forbidden) for row in logits])


def test_a_flushed_subnormal_changes_no_draw():
    # 1000 * 2^-24 is a subnormal half, and a thread that flushes subnormals may not take it for 0.
    logits = torch.zeros((4_000, 2), dtype=torch.float16)
    logits[:, 0] = 1000 * 2.0**-24
    expected = sample_replacements(logits, temperature=1e-5, num_threads=1)
    assert torch.set_flush_denormal(True)
    try:
        assert torch.equal(sample_replacements(logits, temperature=1e-5, num_threads=1), expected)
    finally:
        torch.set_flush_denormal(False)
    assert expected.sum() < 30, "10 of 4,000 are expected, and 2,000 if both were 0"


def test_neither_formats_nor_order_nor_threads_change_a_draw():
    wide = torch.from_numpy(normal(9, 3_000)).bfloat16().float()
    expected = sample_replacements(wide.numpy(), seed=3, num_threads=1)
    brain = wide.bfloat16()
    bits = brain.view(torch.uint16).numpy()
    assert np.array_equal(sample_replacements(bits, bfloat16=True, seed=3, num_threads=2), expected)
    ids = sample_replacements(brain, seed=3)
    assert isinstance(ids, torch.Tensor)
    assert np.array_equal(ids.numpy(), expected)
    half = wide.half().float()
    assert np.array_equal(
        sample_replacements(half.half(), seed=3), sample_replacements(half, seed=3)
    )
    order = np.array([4, 0, 8])
    part = sample_replacements(wide.numpy()[order], sample_ids=order, seed=3)
    assert np.array_equal(part, expected[order])


def test_gradients_do_not_flow_through_samples():
    logits = torch.randn(2, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids = sample_replacements(logits)
    assert ids.tolist() == sample_replacements(logits.detach()).tolist()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"epoch": 1}, {"positions": 1}, {"sample_ids": 1}, {}], ids=str
)
def test_seed_epoch_sample_and_position_each_change_the_draw(change):
    # Flat logits over many tokens: two draws of a row agree with probability 1 / 4096.
    logits = np.zeros((8, 4096), np.float32)
    base = {"sample_ids": np.full(8, 5), "positions": np.arange(8)}
    new = {k: base[k] + 100 if k in base else v for k, v in change.items()}
    a = sample_replacements(logits, **base)
    b = sample_replacements(logits, **{**base, **new})
    assert len(set(a.tolist())) == 8, "positions of one sample draw apart"
    assert (a == b).all() == (not change)
    assert (a == b).sum() in (0, 8)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_out_that_shares_memory_is_refused(kind):
    names = kind(np.arange(2))
    with pytest.raises(MetroFastError, match="out shares memory with sample_ids"):
        sample_replacements(kind(np.zeros((2, 3), np.float32)), sample_ids=names, out=names)


def test_out_is_written_and_returned():
    logits, out = normal(5, 40), np.empty(5, np.int64)
    assert sample_replacements(logits, out=out) is out
    assert np.array_equal(out, sample_replacements(logits))
    tensor = torch.empty(5, dtype=torch.int64)
    assert sample_replacements(torch.from_numpy(logits), out=tensor) is tensor
    assert np.array_equal(out, tensor)


def test_no_rows_give_no_ids():
    assert sample_replacements(np.empty((0, 9), np.float32)).shape == (0,)


def test_rows_with_one_possible_token():
    logits = np.full((3, 700), -np.inf, np.float32)
    logits[[0, 1, 2], [0, 256, 699]] = [-3e38, 0.0, 3e38]
    assert sample_replacements(logits).tolist() == [0, 256, 699]


def poisoned(value, row, column):
    logits = normal(3, 50)
    logits[row, column] = value
    return logits


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (poisoned(np.nan, 1, 49), {}, "NaN at row 1, column 49"),
        (poisoned(np.inf, 2, 0), {}, "inf at row 2, column 0"),
        (torch.tensor([[0.0, torch.nan]]).bfloat16(), {}, "NaN at row 0, column 1"),
        (np.array([[0, np.inf]], np.float16), {}, "inf at row 0, column 1"),
        (np.full((2, 9), -np.inf, np.float32), {}, "nothing but -inf at row 0"),
        (np.empty((2, 0), np.float32), {}, r"logits.shape\[1\] is 0"),
        (normal(1, 9), {"temperature": 0.0}, "temperature is 0"),
        (normal(1, 9), {"temperature": -1.0}, "temperature is -1"),
        (normal(1, 9), {"temperature": float("nan")}, "temperature is NaN"),
        (normal(1, 9), {"temperature": float("inf")}, "temperature is inf"),
        (normal(2, 9), {"sample_ids": [0]}, "1 ids for 2 rows"),
        (normal(2, 9), {"sample_ids": [0, -1]}, "-1 at row 1"),
        (normal(2, 9), {"positions": [0]}, "1 positions for 2 rows"),
        (normal(2, 9), {"positions": [0, 2**32]}, "4294967296 at row 1"),
        (normal(2, 9), {"positions": [-1, 0]}, "-1 at row 0"),
        (normal(2, 9), {"out": np.zeros(3, np.int64)}, "3 ids for 2 rows"),
        (normal(2, 9), {"seed": 2**63}, "seed is"),
        (normal(2, 9), {"num_threads": -1}, "num_threads is -1"),
        (normal(2, 9), {"top_k": 0}, "top_k is 0"),
        (normal(2, 9), {"top_k": -1}, "top_k is -1"),
        (normal(2, 9), {"forbidden": [3, 9]}, "forbidden is 9, expected token ids below the 9"),
        (normal(2, 9), {"forbidden": [-1]}, "forbidden is -1"),
        (normal(2, 9), {"excluded": [1]}, "excluded holds 1 ids for 2 rows"),
        (normal(2, 9), {"excluded": [1, -100]}, "excluded is -100 at row 1"),
        (normal(2, 2), {"forbidden": [0, 1]}, "nothing but -inf at row 0.* may be drawn"),
        (normal(2, 2), {"forbidden": [0], "excluded": [0, 1]}, "nothing but -inf at row 1"),
    ],
)
def test_bad_values_are_named(logits, options, message):
    with pytest.raises(MetroFastError, match=message):
        sample_replacements(logits, **options)


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        ([[0.0]], {}, "logits is a list"),
        (normal(2, 9).astype(np.float64), {}, "array of float64, expected float32"),
        (np.zeros((2, 9), np.uint16), {}, "bfloat16=True"),
        (np.zeros((2, 9), np.int32), {"bfloat16": True}, "array of int32"),
        (normal(2, 9)[0], {}, r"shape \(9,\)"),
        (normal(2, 9)[:, ::2], {}, "not contiguous"),
        (torch.zeros(2, 9, device="meta"), {}, "dense CPU tensor"),
        (normal(2, 9), {"out": np.zeros(2, np.int32)}, "expected int64 in 1"),
        (normal(2, 9), {"positions": [0.5, 1]}, "positions has dtype float64"),
        (normal(2, 9), {"temperature": "hot"}, "temperature"),
        (normal(2, 9), {"top_k": 2.0}, "top_k is a float"),
        (normal(2, 9), {"forbidden": [0.5]}, "forbidden has dtype float64"),
        (normal(2, 9), {"excluded": [[1, 2]]}, "excluded"),
    ],
)
def test_wrong_types_are_type_errors(logits, options, message):
    with pytest.raises(TypeError, match=message):
        sample_replacements(logits, **options)
