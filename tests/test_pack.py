"""ops.pack and ops.unpack against the plain Python reference, and against damage."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast import FormatError, MetroFastError, ops
from metro_fast.testing import pack as reference
from metro_fast.testing.t4_rans import load_frequencies

FREQUENCIES = load_frequencies(Path(__file__).parents[1] / "docs/t4-frequencies.csv")


def random_trits(count: int, density: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, count) * 2 - 1
    return np.where(rng.random(count) < density, signs, 0).astype(np.int8)


TRITS = st.builds(random_trits, st.integers(0, 3000), st.floats(0.0, 1.0), st.integers(0, 2**32))


def test_the_frozen_table():
    assert len(FREQUENCIES) == 256
    for row in FREQUENCIES:
        assert min(row) >= 1
        assert sum(n * f for n, f in zip((1, 8, 24, 32, 16), row, strict=True)) == 16384


@settings(deadline=None, max_examples=40)
@given(trits=TRITS, coding=st.sampled_from(["t4", "bitmask"]))
def test_the_bytes_are_the_references_and_each_reads_the_other(trits, coding):
    packed = ops.pack(trits, coding=coding, steps=512)
    expected = reference.pack(trits, coding, 512, FREQUENCIES)
    assert packed.tobytes() == expected
    np.testing.assert_array_equal(reference.unpack(packed.tobytes(), FREQUENCIES), trits)
    np.testing.assert_array_equal(ops.unpack(packed, trits.size, dtype=np.int8), trits)


def test_several_streams_are_the_references():
    trits = random_trits(70_001, 0.2, 5)
    trits[32_768:65_536] = 0
    packed = ops.pack(trits, steps=512)
    assert packed.tobytes() == reference.pack(trits, "t4", 512, FREQUENCIES)
    np.testing.assert_array_equal(reference.unpack(packed.tobytes(), FREQUENCIES), trits)


@settings(deadline=None)
@given(
    trits=st.builds(
        random_trits, st.integers(0, 200_000), st.floats(0.0, 1.0), st.integers(0, 2**32)
    ),
    coding=st.sampled_from(["t4", "bitmask"]),
    steps=st.sampled_from([None, 512, 1024, 16384]),
    threads=st.integers(1, 3),
)
def test_round_trip(trits, coding, steps, threads):
    packed = ops.pack(trits, coding=coding, steps=steps, num_threads=threads)
    found = ops.unpack(packed, trits.size, dtype=np.int8, num_threads=threads)
    np.testing.assert_array_equal(found, trits)
    scaled = ops.unpack(packed, trits.size, scale=0.3, num_threads=threads)
    np.testing.assert_array_equal(scaled, trits * np.float32(0.3))


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_size_is_near_shannon(density):
    count = 4_000_000
    packed = ops.pack(random_trits(count, density, 1))
    rest = 1 - density
    bits = density - density * np.log2(density) - rest * np.log2(rest)
    assert packed.nbytes <= 1.04 * (count * bits / 8 + 2000)


def test_float_dtypes_round_to_nearest():
    torch = pytest.importorskip("torch")
    trits = random_trits(1000, 0.3, 2)
    packed = ops.pack(trits)
    half = ops.unpack(packed, 1000, scale=0.1, dtype=np.float16)
    np.testing.assert_array_equal(half, (trits * np.float32(0.1)).astype(np.float16))
    tensor = ops.unpack(torch.from_numpy(packed), 1000, scale=0.1, dtype=torch.bfloat16)
    expected = (torch.from_numpy(trits).float() * np.float32(0.1)).bfloat16()
    assert torch.equal(tensor, expected)
    out = torch.empty(1000, dtype=torch.bfloat16)
    assert ops.unpack(packed, 1000, scale=0.1, out=out) is out
    assert torch.equal(out, expected)
    assert ops.unpack(torch.from_numpy(packed), 1000).dtype == torch.float32
    assert isinstance(ops.pack(torch.from_numpy(trits)), torch.Tensor)


def test_every_cut_and_flip_is_noticed():
    trits = random_trits(600, 0.4, 3)
    packed = ops.pack(trits)
    for end in range(packed.size):
        with pytest.raises(FormatError):
            ops.unpack(packed[:end], trits.size)
    for at in range(packed.size):
        damaged = packed.copy()
        damaged[at] ^= 1 << at % 8
        with pytest.raises(FormatError):
            ops.unpack(damaged, trits.size)


@settings(deadline=None)
@given(data=st.binary(max_size=800))
def test_any_bytes_are_refused(data):
    with pytest.raises(FormatError):
        ops.unpack(np.frombuffer(data, np.uint8), 10)


def test_a_claim_of_a_trillion_trits_allocates_nothing():
    packed = ops.pack(np.zeros(100, np.int8))
    forged = packed.copy()
    forged[8:16] = np.array([2**40], "<u8").view(np.uint8)
    with pytest.raises(FormatError, match="streams"):
        ops.unpack(forged, 2**40)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.pack(np.zeros(3)), TypeError, "trits has dtype float64, expected int8"),
        (lambda: ops.pack(np.int8([0, 2])), MetroFastError, "trits is 2 at index 1"),
        (lambda: ops.pack(np.int8([0]), coding="zip"), MetroFastError, "coding is zip"),
        (lambda: ops.pack(np.int8([0]), steps=700), MetroFastError, "steps is 700"),
        (lambda: ops.pack(np.int8([0]), num_threads=-1), MetroFastError, "num_threads is -1"),
        (lambda: ops.unpack(b"abc", 1), TypeError, "packed is a bytes"),
        (lambda: ops.unpack(PACKED, 4), MetroFastError, "count is 4, expected the 3 trits"),
        (lambda: ops.unpack(PACKED, 3, dtype=np.float64), TypeError, "dtype is float64"),
        (lambda: ops.unpack(PACKED, 3, dtype=np.int8, scale=2), MetroFastError, "1 for int8"),
        (lambda: ops.unpack(PACKED, 3, scale=np.nan), MetroFastError, "scale is nan"),
        (lambda: ops.unpack(PACKED, 3, out=np.zeros(4, np.float32)), MetroFastError, "shape"),
        (lambda: ops.unpack(PACKED, 3, out=[0, 0, 0]), TypeError, "out is a list"),
        (
            lambda: ops.unpack(PACKED, 3, out=np.zeros(3, np.int8), dtype=np.int8),
            MetroFastError,
            "both dtype and out",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


PACKED = ops.pack(np.int8([1, 0, -1]))
