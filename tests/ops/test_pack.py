"""ops.pack against the plain Python reference: bytes, size, bad input."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast import MetroFastError, ops
from metro_fast.testing.expert_file import SYMBOLS
from metro_fast.testing.pack import pack as reference
from metro_fast.testing.strategies import random_trits
from metro_fast.testing.t4_rans import load_frequencies
from metro_fast.testing.unpack import unpack

FREQUENCIES = load_frequencies(Path(__file__).parents[2] / "docs/t4-frequencies.csv")


TRITS = st.builds(random_trits, st.integers(0, 3000), st.floats(0.0, 1.0), st.integers(0, 2**32))


def test_the_page_lists_the_symbols():
    page = (Path(__file__).parents[2] / "docs/expert-format.md").read_text()
    listed = page.partition("in hexadecimal:")[2].partition("So symbols")[0].split()
    assert [int(key, 16) for key in listed] == SYMBOLS
    assert len(SYMBOLS) == 81


def test_the_frozen_table():
    assert len(FREQUENCIES) == 256
    for row in FREQUENCIES:
        assert min(row) >= 1
        assert sum(n * f for n, f in zip((1, 8, 24, 32, 16), row, strict=True)) == 16384


@settings(deadline=None, max_examples=40)
@given(trits=TRITS, coding=st.sampled_from(["t4", "bitmask"]))
def test_bytes_equal_the_references_and_each_reads_the_other(simd, trits, coding):
    packed = ops.pack(trits, coding=coding, steps=512)
    expected = reference(trits, coding, 512, FREQUENCIES)
    assert packed.tobytes() == expected
    np.testing.assert_array_equal(unpack(packed.tobytes(), FREQUENCIES), trits)
    np.testing.assert_array_equal(ops.unpack(packed, trits.size, dtype=np.int8), trits)


def test_several_streams_equal_the_references(simd):
    trits = random_trits(70_001, 0.2, 5)
    trits[32_768:65_536] = 0
    packed = ops.pack(trits, steps=512)
    assert packed.tobytes() == reference(trits, "t4", 512, FREQUENCIES)
    np.testing.assert_array_equal(unpack(packed.tobytes(), FREQUENCIES), trits)


@settings(deadline=None)
@given(
    trits=st.builds(
        random_trits, st.integers(0, 200_000), st.floats(0.0, 1.0), st.integers(0, 2**32)
    ),
    coding=st.sampled_from(["t4", "bitmask"]),
    steps=st.sampled_from([None, 512, 1024, 16384]),
    threads=st.integers(1, 3),
)
def test_round_trip(simd, trits, coding, steps, threads):
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.pack(np.zeros(3)), TypeError, "trits has dtype float64, expected int8"),
        (lambda: ops.pack(np.int8([0, 2])), MetroFastError, "trits is 2 at index 1"),
        (lambda: ops.pack(np.int8([0]), coding="zip"), MetroFastError, "coding is zip"),
        (lambda: ops.pack(np.int8([0]), steps=700), MetroFastError, "steps is 700"),
        (lambda: ops.pack(np.int8([0]), steps=-1), MetroFastError, "steps is -1"),
        (lambda: ops.pack(np.int8([0]), steps=2**40), MetroFastError, "steps is 2147483648"),
        (lambda: ops.pack(np.int8([0]), num_threads=-1), MetroFastError, "num_threads is -1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
