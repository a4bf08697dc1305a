"""ops.unpack: roundings, damage, bad input. test_pack.py tests that it inverts `pack`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast import FormatError, MetroFastError, ops
from metro_fast.testing.strategies import random_trits

PACKED = ops.pack(np.int8([1, 0, -1]))


def test_float_dtypes_round_to_nearest(simd):
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


def test_every_cut_and_flip_is_noticed(simd):
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
        (lambda: ops.unpack(b"abc", 1), TypeError, "packed is a bytes"),
        (
            lambda: ops.unpack(PACKED, 4),
            MetroFastError,
            "count is 4, expected 3, the number",
        ),
        (lambda: ops.unpack(PACKED, 3, dtype=np.float64), TypeError, "dtype is float64"),
        (lambda: ops.unpack(PACKED, 3, dtype=np.int8, scale=2), MetroFastError, "1 for int8"),
        (lambda: ops.unpack(PACKED, 3, scale=np.nan), MetroFastError, "scale is nan"),
        (lambda: ops.unpack(PACKED, 3, scale=1e39), MetroFastError, r"scale is 1e\+39"),
        (lambda: ops.unpack(PACKED, 3, scale=-7e4, dtype=np.float16), MetroFastError, "65504"),
        (
            lambda: ops.unpack(PACKED, 3, out=PACKED[:3].view(np.int8)),
            MetroFastError,
            "out shares memory with packed",
        ),
        (lambda: ops.unpack(PACKED, 3, out=np.zeros(4, np.float32)), MetroFastError, "shape"),
        (lambda: ops.unpack(PACKED, 3, out=[0, 0, 0]), TypeError, "out is a list"),
        (
            lambda: ops.unpack(PACKED, 3, out=np.zeros(3, np.int8), dtype=np.int8),
            MetroFastError,
            "dtype is .* and out is given",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
