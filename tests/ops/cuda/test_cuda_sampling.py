"""The CUDA samplers, on the CPU: the token that `ops.sample_replacements` draws, or a flag."""

from typing import Any

import numpy as np
import pytest

from cuda_cases import NO_ROW, bits_of, flags, floats_of
from cuda_emulator import At, Emulator, Launch, compiler
from metro_fast.ops import replaced_token_labels, sample_replacements

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

FORMATS = ("f32", "f16", "bf16")
MOST_SHARED = 99 * 1024
"""Dynamic shared memory that every GPU from sm_80 on gives a CTA."""


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator()


def scale_of(temperature: float) -> np.float32:
    """The factor by which rust/core/src/softmax.rs multiplies distances."""
    return np.float32(np.float32(np.log2(np.e) / temperature) * np.float32(1 << 25))


def sampling(
    logits: np.ndarray,
    name: str,
    *,
    sample_ids: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    epoch: int = 0,
    top_k: int | None = None,
    forbidden: list[int] | None = None,
    excluded: np.ndarray | None = None,
    stride: int | None = None,
    shared: bool = True,
) -> Launch:
    rows, vocabulary = logits.shape
    stride = stride or vocabulary
    bits = bits_of(logits, name)
    # The last row ends where the vocabulary does.
    memory = np.full((rows - 1) * stride + vocabulary, 0x7FC0, bits.dtype)
    for row in range(rows):
        memory[row * stride : row * stride + vocabulary] = bits[row]
    row_bytes = vocabulary * bits.itemsize
    row_bytes = row_bytes if shared and row_bytes <= MOST_SHARED else 0
    none = np.zeros(0, np.int64)
    ids, places, originals = (
        none if a is None else a.astype(np.int64) for a in (sample_ids, positions, excluded)
    )
    never = np.array(forbidden or [], np.int64)
    limited = top_k is not None or never.size > 0 or excluded is not None
    scratch = np.zeros((rows, vocabulary) if limited and not row_bytes else 0, bits.dtype)
    return Launch(
        f"sample_replacements_{name}",
        blocks=rows,
        threads=256,
        shared_bytes=row_bytes,
        buffers=[
            memory,
            ids,
            places,
            np.array([seed, epoch]),
            np.full(rows, 77),
            flags(),
            never,
            originals,
            scratch,
        ],
        arguments=[
            At(0),
            stride,
            vocabulary,
            rows,
            None if sample_ids is None else At(1),
            None if positions is None else At(2),
            At(3),
            scale_of(temperature),
            At(6) if never.size else None,
            never.size,
            None if excluded is None else At(7),
            top_k or 0,
            row_bytes,
            At(8) if scratch.size else None,
            At(4),
            At(5),
        ],
    )


def drawn(logits: np.ndarray, name: str, **options: Any) -> np.ndarray:
    bits = bits_of(logits, name)
    return sample_replacements(bits, bfloat16=name == "bf16", **options)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("vocabulary", [1, 2, 31, 32, 33, 255, 257, 1_000, 32_128])
def test_the_token_equals_that_of_the_cpu(emulator, vocabulary: int, name: str):
    random = np.random.default_rng(vocabulary)
    rows = 3 if vocabulary > 1_000 else 12
    launches, expected = [], []
    for i, temperature in enumerate((1.0, 0.3, 7.0)):
        logits = random.normal(0, 4, (rows, vocabulary)).astype(np.float32)
        logits[0] = -np.inf
        logits[0, vocabulary // 2] = -3.0
        options: dict[str, Any] = {
            "temperature": temperature,
            "seed": 2**63 - 1 - i,
            "epoch": 5 * i,
        }
        if i:
            options["sample_ids"] = random.integers(0, 2**62, rows)
            options["positions"] = random.integers(0, 2**32, rows)
        stride = vocabulary + (0, 1, 24)[i]
        launches.append(sampling(logits, name, stride=stride, shared=i != 1, **options))
        expected.append(drawn(logits, name, **options))
    for found, ids in zip(emulator.run(launches), expected, strict=True):
        assert found[5].tolist() == [0, NO_ROW]
        np.testing.assert_array_equal(found[4], ids)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("vocabulary", [2, 40, 300, 2_000])
def test_limits_are_those_of_the_cpu(emulator, vocabulary: int, name: str):
    random = np.random.default_rng(vocabulary)
    rows, launches, expected = 9, [], []
    each = random.integers(1, vocabulary, rows)
    some = random.integers(1, vocabulary, 7).tolist()
    for i, limits in enumerate(
        (
            {"top_k": 1},
            {"top_k": max(1, vocabulary // 3)},
            {"top_k": vocabulary + 5},
            {"forbidden": some},
            {"excluded": each},
            {"top_k": 2, "forbidden": some, "excluded": each},
        )
    ):
        # Whole numbers of both signs, so that many are as likely as the last of the likeliest.
        logits = random.integers(-9, 9, (rows, vocabulary)).astype(np.float32)
        logits[:, -1] = -np.inf
        logits[:, 0] = random.choice([-8.0, -0.0, 3.0], rows)
        # A NaN that may not be drawn is not looked at.
        if "forbidden" in limits:
            logits[:, some[0]] = np.nan
        for shared in (True, False):
            launches.append(sampling(logits, name, shared=shared, seed=i, **limits))
            expected.append(drawn(logits, name, seed=i, **limits))
    for found, ids in zip(emulator.run(launches), expected, strict=True):
        assert found[5].tolist() == [0, NO_ROW]
        np.testing.assert_array_equal(found[4], ids)


@pytest.mark.slow  # the emulated kernel takes 2 ms a row, which it draws with 256 fibers
def test_many_rows(emulator):
    random = np.random.default_rng(11)
    for part in range(4):
        logits = random.normal(0, 1 + 2 * part, (1_000, 33)).astype(np.float32)
        found = emulator.run([sampling(logits, "bf16", seed=part)])[0]
        np.testing.assert_array_equal(found[4], drawn(logits, "bf16", seed=part))


def test_a_vocabulary_beyond_shared_memory(emulator):
    logits = np.random.default_rng(0).normal(0, 3, (2, 60_000)).astype(np.float32)
    launch = sampling(logits, "f32")
    assert launch.shared_bytes == 0
    found = emulator.run([launch])[0]
    np.testing.assert_array_equal(found[4], drawn(logits, "f32"))


def test_many_draws_of_few_tokens(emulator):
    """Equal logits, tiny and huge distances: all ways a token can be at the edge of a sum."""
    random = np.random.default_rng(3)
    logits = random.choice(np.float32([0, -1, -27.7, -28.5, -100, -np.inf]), (600, 70))
    logits[:, 0] = 0
    found = emulator.run([sampling(logits, "f32", seed=9)])[0]
    np.testing.assert_array_equal(found[4], drawn(logits, "f32", seed=9))


def test_bad_rows_are_flagged_and_the_others_drawn(emulator):
    good = np.zeros((4, 40), np.float32)
    cases: list[tuple[int, int, dict[str, Any]]] = []
    for code, row, value in ((16, 2, np.nan), (16, 1, np.inf), (17, 3, -np.inf)):
        logits = good.copy()
        logits[row, slice(None) if code == 17 else 39] = value
        cases.append((code, row, {"logits": logits}))
    cases.append((18, 1, {"sample_ids": np.array([3, -1, 2, -5])}))
    cases.append((19, 0, {"positions": np.array([2**32, 0, -1, 1])}))
    cases.append((20, 0, {"seed": -1}))
    cases.append((20, 0, {"epoch": -4}))
    cases.append((21, 2, {"excluded": np.array([0, 39, 40, -1])}))
    cases.append((21, 0, {"forbidden": [0, 40]}))
    cases.append((17, 0, {"forbidden": list(range(40))}))
    launches = [sampling(o.pop("logits", good), "bf16", **o) for _, _, o in cases]
    for (code, row, _), found in zip(cases, emulator.run(launches), strict=True):
        assert found[5].tolist() == [code, row]
        assert found[4][row] == -1
        assert (found[4] >= 0).any() or row == 0


@pytest.mark.slow  # builds a program with the thread sanitizer, and runs real threads
def test_no_barrier_between_sampling_threads_is_missing():
    """A row whose token is searched for in three steps, in shared memory and outside it."""
    logits = np.random.default_rng(6).normal(0, 2, (1, 2_100)).astype(np.float32)
    launches = [sampling(logits, "f16", seed=1, shared=shared) for shared in (True, False)]
    for found in Emulator("thread").run(launches):
        np.testing.assert_array_equal(found[4], drawn(logits, "f16", seed=1))


@pytest.mark.parametrize("size", [1, 255, 256, 1_000])
def test_replaced_token_labels(emulator, size: int):
    random = np.random.default_rng(size)
    original = random.integers(0, 50, size)
    original[random.random(size) < 0.2] = -100
    places = np.flatnonzero((original >= 0) & (random.random(size) < 0.3))
    sampled = random.integers(0, 50, places.size)
    sampled[::3] = original[places[::3]]
    found = emulator.run(labels(original, sampled, places, pad=7))
    filled, scattered = found
    batch = replaced_token_labels(original, sampled, places, pad_token_id=7)
    # The second launch starts from the test's arrays: copy its changes over the first's.
    changed = scattered[3] != -77
    input_ids = np.where(changed, scattered[3], filled[3])
    np.testing.assert_array_equal(input_ids, batch.input_ids)
    np.testing.assert_array_equal(np.where(changed, scattered[4], filled[4]), batch.labels)
    assert scattered[5].tolist() == [0, NO_ROW]


def labels(original: np.ndarray, sampled: np.ndarray, places: np.ndarray, pad: int) -> list[Launch]:
    n, m = original.size, places.size
    buffers = [original, sampled, places, np.full(n, -77), np.full(n, 77, np.int8), flags()]
    buffers = [a if a.dtype != int else a.astype(np.int64) for a in buffers]
    fill = Launch(
        "replaced_token_labels_fill",
        blocks=-(-n // 256),
        threads=256,
        buffers=buffers,
        arguments=[At(0), n, pad, At(3), At(4)],
    )
    scatter = Launch(
        "replaced_token_labels_scatter",
        blocks=-(-max(m, 1) // 256),
        threads=256,
        buffers=buffers,
        arguments=[At(0), n, At(1), At(2), m, At(3), At(4), At(5)],
    )
    return [fill, scatter]


def test_masked_positions_that_do_not_fit_are_flagged_and_not_written():
    """Under the address sanitizer: a position out of range is never written to."""
    emulator = Emulator("address")
    original = np.array([5, -100, 7, 8])
    cases = [
        ([2, 1], [1, 1], 33, 1),
        ([2, 2], [1, 1], 32, 1),
        ([3, 4], [1, 1], 32, 1),
        ([-1, 0], [1, 1], 32, 0),
        ([0, 1], [1, 1], 33, 1),
        ([0, 2], [1, -1], 34, 1),
        ([2**62, 2**63 - 1], [1, 1], 32, 0),
        # The second is above the first, and below the array.
        ([-5, -3], [1, 1], 32, 0),
        ([-(2**40), -(2**39)], [1, 1], 32, 0),
    ]
    for places, sampled, code, index in cases:
        launch = labels(original, np.array(sampled), np.array(places), pad=0)[1]
        found = emulator.run([launch])[0]
        # Of [2, 1] the second is out of order and at padding: the order is reported first.
        assert found[5].tolist() == [32 if places == [2, 1] else code, index]


def test_conversions_equal_those_of_the_cpu(emulator):
    """Every bfloat16 and float16 as a logit next to 0: the kernel converts them as Rust does."""
    every = np.arange(2**16, dtype=np.uint16)
    for name in ("f16", "bf16"):
        bits = every.view(np.float16) if name == "f16" else every
        values = floats_of(bits, name)
        keep = np.isfinite(values) & (np.abs(values) < 60)
        logits = np.zeros((keep.sum(), 2), np.float32)
        logits[:, 1] = values[keep]
        few = logits[:: 1 + logits.shape[0] // 800]
        found = emulator.run([sampling(few, name, seed=4)])[0]
        np.testing.assert_array_equal(found[4], drawn(few, name, seed=4))
