"""ops.ternarize against sorting, the published algorithm's golden codes, and bad input."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from golden_inputs import golden_input
from metro_fast import MetroFastError, ops
from metro_fast.testing.ternarize import ternarize as reference

# Few distinct values make many ties, the hard case of a selection.
TIED = hnp.arrays(
    np.float32,
    st.integers(1, 400),
    elements=st.integers(-8, 8).map(lambda value: value / 4),
)
ANY = hnp.arrays(
    np.float32,
    st.integers(1, 400),
    elements=st.floats(-(2.0**90), 2.0**90, width=32),
)


@settings(deadline=None)
@given(
    x=TIED | ANY,
    density=st.floats(0.001, 1.0),
    alpha=st.sampled_from([1.0, 2.5, "least_squares"]),
    threads=st.integers(1, 3),
)
def test_equals_sorting(x, density, alpha, threads):
    trits, scale = ops.ternarize(x, density=density, alpha=alpha, num_threads=threads)
    expected, expected_scale = reference(x, density=density, alpha=alpha)
    np.testing.assert_array_equal(trits, expected)
    assert trits.dtype == np.int8
    assert scale == pytest.approx(expected_scale, rel=1e-6, abs=1e-38)


def test_many_chunks_and_any_thread_count_give_one_result():
    rng = np.random.default_rng(0)
    # 3 million rounded values: hundreds of thousands share the deciding magnitude.
    x = np.round(rng.standard_normal(3_000_000) * 8).astype(np.float32) / 8
    results = [ops.ternarize(x, density=0.2, num_threads=n) for n in (1, 2, 5)]
    expected, scale = reference(x, density=0.2)
    for trits, found in results:
        np.testing.assert_array_equal(trits, expected)
        assert found == results[0].scale == pytest.approx(scale, rel=1e-6)
    assert np.count_nonzero(expected) == 600_000


def test_least_squares_is_the_best_scale():
    x = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    trits, scale = ops.ternarize(x, density=0.3, alpha="least_squares")
    error = [float(np.sum((x - s * trits) ** 2)) for s in (scale * 0.999, scale, scale * 1.001)]
    assert min(error) == error[1]


def test_golden_codes_of_the_published_algorithm_with_exact_k(golden_folder: Path):
    golden = json.loads((golden_folder / "compeft_compress.json").read_text())
    checked = 0
    for vector in golden["vectors"]:
        x = golden_input(vector)
        assert hashlib.sha256(_bytes_of(x, vector)).hexdigest() == vector["sha256_input_bytes"]
        for result in vector["results"]:
            exact = result["exact_mode"]
            trits, scale = ops.ternarize(x, density=result["k"] / 100)
            assert np.count_nonzero(trits) == exact["nonzero"]
            assert hashlib.sha256(trits.tobytes()).hexdigest() == exact["codes_sha256"]
            if vector["std_f64"] is not None:
                assert scale == pytest.approx(vector["std_f64"], rel=1e-6)
            checked += 1
    assert checked == 125


def _bytes_of(x, vector):
    if vector["kind"] == "bf16":
        return (x.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return x.tobytes()


def test_torch_tensors_give_torch_tensors():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)
    trits, scale = ops.ternarize(x, density=0.5, alpha="least_squares")
    assert trits.dtype == torch.int8
    assert trits.tolist() == [[0, -1], [0, 1]]
    assert scale == 2.5


def test_shapes_and_strides():
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    trits, _ = ops.ternarize(x[:, ::2], density=0.25)
    np.testing.assert_array_equal(trits, reference(x[:, ::2], density=0.25)[0])
    assert ops.ternarize(np.zeros(0, np.float32), density=0.5).trits.shape == (0,)
    trits, scale = ops.ternarize(np.float32([-3.0]), density=1.0)
    assert (trits.tolist(), scale) == ([-1], 3.0)
    assert not ops.ternarize(np.float32([1, 2]), density=0.2).trits.any()


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.zeros(3), {}, TypeError, "x has dtype float64, expected float32"),
        ([1.0], {}, TypeError, "x is a list"),
        (np.zeros(3, np.float32), {"density": 0.0}, MetroFastError, "density is 0"),
        (np.zeros(3, np.float32), {"density": 1.01}, MetroFastError, r"in \(0, 1\]"),
        (np.zeros(3, np.float32), {"density": float("nan")}, MetroFastError, "density is NaN"),
        (np.zeros(3, np.float32), {"alpha": 0.0}, MetroFastError, "alpha is 0"),
        (np.zeros(3, np.float32), {"alpha": float("inf")}, MetroFastError, "alpha is inf"),
        (np.zeros(3, np.float32), {"alpha": "best"}, TypeError, "least_squares"),
        (np.zeros(3, np.float32), {"num_threads": 0}, MetroFastError, "num_threads is 0"),
        (np.float32([0, np.nan]), {}, MetroFastError, "x is NaN at index 1 of x"),
        (np.float32([[0], [-np.inf]]), {}, MetroFastError, "x is -inf at index 1"),
        (
            np.float32([3e38, -3e38]),
            {"alpha": 99.0},
            MetroFastError,
            "gives a finite float32 scale",
        ),
    ],
)
def test_bad_input_is_named(x, options, error, message):
    with pytest.raises(error, match=message):
        ops.ternarize(x, **{"density": 0.5, **options})
