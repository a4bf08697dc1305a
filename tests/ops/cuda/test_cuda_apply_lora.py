"""The CUDA kernel for packed LoRA experts in a batch, on the CPU, against float64."""

import numpy as np
import pytest

from cuda_cases import NO_ROW, bits_of, flags, floats_of
from cuda_emulator import At, Emulator, Launch, compiler
from metro_fast.ops.cuda.lora import ENTRY, bit_planes

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

EPSILON = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


def expert(random: np.random.Generator, rank: int, inner: int, outer: int):
    a, b = (
        np.where(random.random(shape) < 0.2, random.integers(0, 2, shape) * 2 - 1, 0)
        for shape in ((rank, inner), (outer, rank))
    )
    return a.astype(np.int8), b.astype(np.int8), *random.uniform(0.01, 0.1, 2).astype(np.float32)


def apply_lora(x, y, which, experts, name: str) -> Launch:
    rows, inner, outer = len(x), x.shape[1], y.shape[1]
    table = np.zeros(len(experts), ENTRY)
    buffers = [bits_of(x, name), bits_of(y, name), np.array(which, np.int32), table, flags()]
    pointers = []
    for i, (a, b, a_scale, b_scale) in enumerate(experts):
        table[i] = ([0] * 4, a_scale, b_scale, len(a), 0)
        for j, plane in enumerate((*bit_planes(a), *bit_planes(b))):
            pointers.append((3, ENTRY.itemsize * i + 8 * j, At(len(buffers))))
            buffers.append(plane)
    arguments = [At(0), At(1), rows, inner, outer, At(2), At(3), len(experts), At(4)]
    return Launch(f"apply_lora_{name}", rows, 256, 0, buffers, pointers, arguments)


@pytest.mark.parametrize("name", EPSILON)
@pytest.mark.parametrize(("inner", "outer"), [(64, 32), (100, 77), (1, 1), (500, 300)])
def test_against_float64(name: str, inner: int, outer: int):
    random = np.random.default_rng(inner)
    experts = [expert(random, rank, inner, outer) for rank in (1, 8, 33)]
    x, y = (random.standard_normal((6, size)).astype(np.float32) for size in (inner, outer))
    which = [0, 2, -1, 1, 2, 0]
    found = Emulator().run([apply_lora(x, y, which, experts, name)])[0]
    assert found[4].tolist() == [0, NO_ROW]
    x, y = (floats_of(bits_of(v, name), name).astype(np.float64) for v in (x, y))
    for row, number in enumerate(which):
        result = floats_of(found[1], name)[row]
        if number == -1:
            np.testing.assert_array_equal(result, y[row])
            continue
        a, b, a_scale, b_scale = experts[number]
        exact = y[row] + (x[row] @ a.T.astype(float)) @ b.T.astype(float) * a_scale * b_scale
        # The error of the sums in float32, and of the one rounding at the end.
        size = np.abs(x[row]) @ np.abs(a.T) @ np.abs(b.T) * a_scale * b_scale
        bound = (inner + len(a)) * 2.0**-24 * size + EPSILON[name] * np.abs(exact) + 1e-7
        assert (np.abs(result - exact) <= bound).all()


def test_a_row_does_not_depend_on_its_batch():
    random = np.random.default_rng(1)
    experts = [expert(random, 16, 200, 90) for _ in range(3)]
    x, y = (random.standard_normal((4, size)).astype(np.float32) for size in (200, 90))
    whole = Emulator().run([apply_lora(x, y, [0, 1, 2, 1], experts, "f32")])[0][1]
    for row, number in enumerate([0, 1, 2, 1]):
        one = slice(row, row + 1)
        alone = Emulator().run([apply_lora(x[one], y[one], [number], experts, "f32")])[0][1]
        np.testing.assert_array_equal(whole[row], alone[0])


def test_numbers_of_absent_experts_are_flagged():
    """Under the address sanitizer; the other rows are computed."""
    random = np.random.default_rng(2)
    experts = [expert(random, 4, 40, 30), expert(random, 513, 40, 30)]
    x, y = np.ones((4, 40), np.float32), np.zeros((4, 30), np.float32)
    found = Emulator("address").run([apply_lora(x, y, [0, 2, -7, 1], experts, "f32")])[0]
    assert found[4].tolist() == [48, 1]
    assert found[1][0].any()
    assert not found[1][1:].any()


@pytest.mark.slow  # builds a program with the thread sanitizer, and runs real threads
def test_no_barrier_between_threads_is_missing():
    random = np.random.default_rng(3)
    experts = [expert(random, 33, 100, 77)]
    x, y = (random.standard_normal((1, size)).astype(np.float32) for size in (100, 77))
    launch = apply_lora(x, y, [0], experts, "f32")
    found = [Emulator(sanitizer).run([launch])[0][1] for sanitizer in ("thread", "none")]
    np.testing.assert_array_equal(*found)
