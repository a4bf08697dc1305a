"""The registered ops: opcheck, compiling, and the CUDA side with its kernels run on the CPU."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import metro_fast.ops.torch as registered
from cuda_emulator import At, Emulator, Launch, compiler
from metro_fast import ops
from metro_fast.errors import CudaError, FormatError, MetroFastError
from metro_fast.ops.cuda import flags, kernels
from metro_fast.ops.cuda.lora import LoraTable, TernaryLora, apply_lora

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
ALL_TESTS = {"test_schema", "test_autograd_registration", "test_faketensor"}
ALL_TESTS |= {"test_aot_dispatch_dynamic"}


def trits(count: int, seed: int = 0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(-1, 2, count).astype(np.int8))


def cases() -> list[tuple[Any, tuple[Any, ...]]]:
    torch.manual_seed(0)
    packed = ops.pack(trits(1_000))
    original = torch.randint(0, 9, (3, 7))
    return [
        (registered.sample_replacements, (torch.randn(5, 40), torch.tensor([3, 4]))),
        (
            registered.sample_replacements,
            (torch.randn(5, 40).bfloat16(), torch.tensor([3, 4]), torch.arange(5), None, 0.7),
        ),
        (
            registered.replaced_token_labels,
            (original, torch.tensor([1, 2]), torch.tensor([3, 9]), 0),
        ),
        (registered.unpack, (packed, 1_000, -0.5, torch.bfloat16)),
        (registered.unpack_out, (packed, 0.5, torch.empty(1_000))),
    ]


@pytest.mark.parametrize("case", range(5))
def test_opcheck(case: int):
    op, arguments = cases()[case]
    found = torch.library.opcheck(op, arguments)
    assert found == dict.fromkeys(ALL_TESTS, "SUCCESS")


@pytest.mark.parametrize("dtype", FLOATS)
def test_they_equal_the_functions_of_their_names(dtype):
    torch.manual_seed(1)
    logits = torch.randn(6, 300).to(dtype)
    ids, places = torch.arange(6) * 7, torch.arange(6)
    options = {"sample_ids": ids, "positions": places, "temperature": 0.8}
    expected = ops.sample_replacements(logits, seed=5, epoch=2, **options)
    found = registered.sample_replacements(logits, torch.tensor([5, 2]), **options)
    assert torch.equal(found, expected)
    # Rows that are not contiguous are accepted too.
    wide = torch.randn(6, 400).to(dtype)
    found = registered.sample_replacements(wide[:, :300], torch.tensor([5, 2]), **options)
    part = wide[:, :300].contiguous()
    assert torch.equal(found, ops.sample_replacements(part, seed=5, epoch=2, **options))
    values = trits(5_000)
    block = ops.pack(values)
    expected = (values.float() * 0.3).to(dtype)
    assert torch.equal(registered.unpack(block, 5_000, 0.3, dtype), expected)
    out = torch.full((5_000,), 9.0, dtype=dtype)
    registered.unpack_out(block, 0.3, out)
    assert torch.equal(out, expected)


class Step(torch.nn.Module):
    """The part of a METRO step between its two models."""

    def forward(self, logits, seed_epoch, ids, original, places, packed):
        drawn = registered.sample_replacements(logits * 2, seed_epoch, ids)
        inputs, labels = registered.replaced_token_labels(original, drawn, places, 0)
        bias = registered.unpack(packed, 40, 0.5, torch.float32)
        registered.unpack_out(packed, 2.0, bias)
        return inputs + 1, labels, bias * 2


@pytest.mark.slow  # inductor compiles C++
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_one_graph_without_breaks_and_without_recompilation(backend: str):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    torch.manual_seed(2)
    logits, original = torch.randn(4, 50), torch.randint(0, 50, (2, 9))
    places, packed = torch.tensor([1, 4, 9, 17]), ops.pack(trits(40))
    step = Step()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for seed in range(4):
        pair, ids = torch.tensor([seed, 9 - seed]), torch.arange(4) + seed
        arguments = (logits, pair, ids, original, places, packed)
        for one, other in zip(compiled(*arguments), step(*arguments), strict=True):
            assert torch.equal(one, other)
    assert counter.frame_count == 1


def test_bad_values_are_refused_on_the_cpu():
    logits = torch.zeros(2, 4)
    pair = torch.tensor([0, 0])
    with pytest.raises(MetroFastError, match=r"seed_epoch has dtype torch\.int32"):
        registered.sample_replacements(logits, pair.int())
    with pytest.raises(MetroFastError, match="seed"):
        registered.sample_replacements(logits, torch.tensor([-1, 0]))
    with pytest.raises(FormatError):
        registered.unpack(torch.zeros(600, dtype=torch.uint8), 5)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Sends launches to the emulator with the memory of CPU tensors, and keeps them in a list."""
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    emulator, seen = Emulator(), []

    def run(source, kernel, arguments, *, on, grid, block, shared_bytes=0) -> None:
        assert (Path(__file__).resolve().parents[2] / "cuda" / source).is_file()
        buffers: dict[int, Any] = {}
        given = []
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                storage = argument.untyped_storage()
                memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
                buffers.setdefault(storage.data_ptr(), np.frombuffer(memory, np.uint8))
                number = list(buffers).index(storage.data_ptr())
                given.append(At(number, argument.data_ptr() - storage.data_ptr()))
            elif isinstance(argument, ctypes.c_float):
                given.append(np.float32(argument.value))
            else:
                given.append(None if argument is None else argument.value)
        launch = Launch(kernel, grid, block, shared_bytes, list(buffers.values()), [], given)
        (found,) = emulator.run([launch])
        for memory, after in zip(buffers.values(), found, strict=True):
            memory[:] = after
        seen.append(launch)

    monkeypatch.setattr(kernels, "launch_on", run)
    monkeypatch.setattr(kernels, "_shared_bytes", lambda device: 232_448)
    monkeypatch.setattr(flags, "_buffers", {})
    return seen


@pytest.mark.parametrize("dtype", FLOATS)
def test_decoding_through_the_host_code(emulated, dtype):
    for count in (0, 1, 31, 70_001):
        values = trits(count, seed=count)
        for coding in ("t4", "bitmask"):
            out = torch.full((count,), 9.0, dtype=dtype)
            kernels.unpack_into(ops.pack(values, coding=coding, steps=512), -0.3, out)
            expected = (values.float() * -0.3).to(dtype) + 0.0
            assert torch.equal(out, expected)
    # Bytes that do not start at a multiple of 16 are copied to one.
    block = ops.pack(values)
    shifted = torch.cat([block[:1], block])[1:]
    assert shifted.data_ptr() % 16 != 0
    kernels.unpack_into(shifted, -0.3, out)
    assert torch.equal(out, expected)


def test_damage_and_wrong_counts_become_errors(emulated):
    block = ops.pack(trits(3_000))
    with pytest.raises(MetroFastError, match="count is not the number of trits"):
        kernels.unpack_into(block, 1.0, torch.empty(2_999))
    damaged = block.clone()
    damaged[0] ^= 1
    with pytest.raises(FormatError, match="its header is damaged"):
        kernels.unpack_into(damaged, 1.0, torch.empty(3_000))
    # A GPU computes no checksums; it checks the final states of a T4-rANS stream.
    sparse = torch.where(torch.arange(30_000) % 19 == 0, trits(30_000), 0)
    damaged = ops.pack(sparse)
    assert damaged[40] == 0  # T4-rANS
    damaged[500] ^= 1
    with pytest.raises(FormatError, match="a T4-rANS stream is damaged"):
        kernels.unpack_into(damaged, 1.0, torch.empty(30_000))
    with pytest.raises(FormatError):
        kernels.unpack_into(block[:100].clone(), 1.0, torch.empty(3_000))
    # The flag was cleared: the next call does not fail for it.
    kernels.unpack_into(block, 1.0, torch.empty(3_000))
    for wrong, message in (
        ((block.int(), 1.0, torch.empty(3_000)), "packed is int32"),
        ((block, 1.0, torch.empty(3_000, dtype=torch.int8)), "out has dtype int8 on CUDA"),
        ((block, 1.0, torch.empty(6_000)[::2]), "not contiguous"),
    ):
        with pytest.raises(TypeError, match=message):
            kernels.unpack_into(*wrong)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sampling_through_the_host_code(emulated, dtype):
    torch.manual_seed(3)
    wide = (3 * torch.randn(5, 333)).to(dtype)
    pair, ids, places = torch.tensor([2**62, 11]), torch.arange(5) * 2**40, torch.arange(5)
    for logits in (wide, wide[:, 13:300], wide[2:3]):
        rows = len(logits)
        for extra in ((None, None), (ids[:rows], places[:rows])):
            found = kernels.sample_replacements(logits, pair, *extra, 0.9)
            assert torch.equal(found, registered.sample_replacements(logits, pair, *extra, 0.9))
    assert {launch.shared_bytes for launch in emulated} == {
        333 * wide.element_size(),
        287 * wide.element_size(),
    }
    assert kernels.sample_replacements(wide[:0], pair, None, None, 1.0).tolist() == []


def test_a_row_that_does_not_fit_into_shared_memory_is_read_again(emulated, monkeypatch):
    monkeypatch.setattr(kernels, "_shared_bytes", lambda device: 2_000)
    logits, pair = torch.randn(3, 500), torch.tensor([1, 2])
    found = kernels.sample_replacements(logits, pair, None, None, 1.0)
    assert emulated[0].shared_bytes == 0
    assert torch.equal(found, registered.sample_replacements(logits, pair))
    for limits in ({"top_k": 500}, {"top_k": 9}, {"forbidden": torch.arange(400)}):
        found = kernels.sample_replacements(logits, pair, None, None, 1.0, **limits)
        assert torch.equal(found, registered.sample_replacements(logits, pair, **limits))


def test_bad_rows_become_errors(emulated):
    pair = torch.tensor([0, 0])
    logits = torch.zeros(3, 8)
    logits[1, 5] = torch.nan
    draw = kernels.sample_replacements
    with pytest.raises(MetroFastError, match="NaN or inf at row 1"):
        draw(logits, pair, None, None, 1.0)
    good = torch.zeros(3, 8)
    for arguments, kind, message in (
        ((good, pair, torch.tensor([0, 1, -1]), None, 1.0), MetroFastError, "at row 2"),
        ((good, -pair - 1, None, None, 1.0), MetroFastError, "seed or epoch"),
        ((good, pair, None, None, 0.0), MetroFastError, "temperature is 0.0"),
        ((good, pair, None, torch.tensor([0, 1]), 1.0), MetroFastError, r"expected \(3,\)"),
        ((good.double(), pair, None, None, 1.0), TypeError, "float64 on CUDA"),
        ((good.T, pair, None, None, 1.0), TypeError, "contiguous rows"),
        ((good, pair.int(), None, None, 1.0), TypeError, "seed_epoch is int32"),
        ((good[:, :0], pair, None, None, 1.0), MetroFastError, r"shape\[1\] is 0"),
    ):
        with pytest.raises(kind, match=message):
            draw(*arguments)


def test_a_block_checks_once_at_its_end(emulated):
    pair, bad = torch.tensor([0, 0]), torch.zeros(3, 8)
    bad[1, 5] = torch.nan
    drawn = None
    with pytest.raises(MetroFastError, match="NaN or inf at row 1"), registered.check_once("cpu"):
        drawn = kernels.sample_replacements(bad, pair, None, None, 1.0)
    assert drawn is not None  # the op itself did not raise
    assert drawn[1] == -1
    # An exception in the block is not hidden; the flag waits for the next check.
    with pytest.raises(TypeError, match="float64"), registered.check_once("cpu"):
        [kernels.sample_replacements(x, pair, None, None, 1.0) for x in (bad, bad.double())]
    with pytest.raises(MetroFastError, match="NaN or inf at row 1"):
        registered.raise_flagged("cpu")
    # Outside of it each op checks again.
    with pytest.raises(MetroFastError, match="NaN or inf at row 1"):
        kernels.sample_replacements(bad, pair, None, None, 1.0)


def test_labels_through_the_host_code(emulated):
    original = torch.tensor([[5, 6, 7, -100], [8, 9, -100, -100]])
    sampled, places = torch.tensor([6, 1]), torch.tensor([1, 4])
    found = kernels.replaced_token_labels(original, sampled, places, 3)
    expected = registered.replaced_token_labels(original, sampled, places, 3)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    none = torch.empty(0, dtype=torch.int64)
    found = kernels.replaced_token_labels(original, none, none, 3)
    assert found[1].tolist() == [[0, 0, 0, -100], [0, 0, -100, -100]]
    with pytest.raises(MetroFastError, match="at padding at index 1"):
        kernels.replaced_token_labels(original, sampled, torch.tensor([1, 3]), 3)
    with pytest.raises(MetroFastError, match="pad_token_id is -1"):
        kernels.replaced_token_labels(original, sampled, places, -1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_packed_lora_through_the_host_code(monkeypatch, dtype):
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    emulator = Emulator()
    random = np.random.default_rng(0)
    experts = [
        TernaryLora(
            random.integers(-1, 2, (rank, 70)).astype(np.int8),
            random.integers(-1, 2, (40, rank)).astype(np.int8),
            0.02,
            0.03 * rank,
        )
        for rank in (1, 9, 40)
    ]
    table = LoraTable(experts, "cpu")

    def run(source, kernel, arguments, *, on, grid, block) -> None:
        x, y, rows, inner, outer, which, entries, count, flags = arguments
        base = table.planes.data_ptr()
        pointers = []
        for i in range(table.count):
            for j in range(4):
                place = 48 * i + 8 * j
                at = int(entries[place : place + 8].numpy().view(np.uint64)[0])
                pointers.append((3, place, At(5, at - base)))
        tensors = (x, y, which, entries, flags, table.planes)
        buffers = [t.view(torch.uint8).numpy() for t in tensors]
        sizes = [rows.value, inner.value, outer.value]
        given = [At(0), At(1), *sizes, At(2), At(3), count.value, At(4)]
        one = Launch(kernel, grid, block, 0, buffers, pointers, given)
        (found,) = emulator.run([one])
        y.view(torch.uint8).numpy()[:] = found[1]
        flags.view(torch.uint8).numpy()[:] = found[4]

    monkeypatch.setattr(kernels, "launch_on", run)
    torch.manual_seed(5)
    x, y = torch.randn(5, 70).to(dtype), torch.randn(5, 40).to(dtype)
    which = torch.tensor([2, -1, 0, 1, 2], dtype=torch.int32)
    before = y.clone()
    apply_lora(x, y, which, table)
    for row, number in enumerate(which.tolist()):
        update = torch.zeros(40, dtype=torch.float64)
        if number >= 0:
            one = experts[number]
            product = torch.from_numpy(one.b.astype(float)) @ torch.from_numpy(one.a.astype(float))
            update = one.a_scale * one.b_scale * product @ x[row].double()
        expected = before[row].double() + update
        torch.testing.assert_close(y[row], expected.to(dtype), rtol=1e-2, atol=1e-2)
    with pytest.raises(MetroFastError, match=r"expert_of_row or the rank .* at row 3"):
        apply_lora(x, y, torch.tensor([0, 1, 2, 3, 9], dtype=torch.int32), table)
    with pytest.raises(MetroFastError, match="expected 5 rows for a layer"):
        apply_lora(x, y[:, :39].contiguous(), which, table)
    with pytest.raises(TypeError, match="expected contiguous int32"):
        apply_lora(x, y, which.long(), table)
    for wrong, message in (
        ([], "without experts"),
        ([experts[0], experts[1]._replace(b=experts[0].b)], "expert 1 has shapes"),
        (
            [experts[0]._replace(a=np.zeros((513, 70), np.int8), b=np.zeros((40, 513), np.int8))],
            "has rank 513, expected 1 to 512",
        ),
    ):
        with pytest.raises(MetroFastError, match=message):
            LoraTable(wrong, "cpu")


def test_every_flag_has_a_message():
    text = (Path(__file__).resolve().parents[2] / "cuda" / "flags.cuh").read_text()
    codes = {
        int(line.split("=")[1].split(",")[0])
        for line in text.splitlines()
        if "FLAG_" in line and "=" in line
    }
    assert codes == {0, 7, *flags._BLOCK, *flags._ROW}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_error_names_what_is_missing(monkeypatch):
    monkeypatch.setenv("METRO_FAST_LIBCUDA", "/no/libcuda.so")
    from metro_fast.ops.cuda import launch

    with pytest.raises(CudaError, match="the CUDA driver"):
        launch.launch("unpack.cu", "unpack_f32", [], device=0, stream=0, grid=1, block=128)


def test_functions_send_cuda_tensors_to_the_kernels(emulated, monkeypatch):
    """`metro_fast.ops` on CUDA tensors; the tests pass CPU tensors in their place."""
    from metro_fast.ops import replaced_token_labels, sample_replacements, unpack

    modules = [
        sys.modules[f"metro_fast.ops.{name}"]
        for name in ("unpack", "sample_replacements", "replaced_token_labels")
    ]
    values, logits = trits(3_000), torch.randn(4, 60)
    block, original = ops.pack(values), torch.tensor([[5, 6, -100]])
    sampled, places = torch.tensor([9]), torch.tensor([1])
    expected = (
        unpack(block, 3_000, scale=0.5, dtype=torch.bfloat16),
        sample_replacements(logits, seed=3, epoch=4),
        replaced_token_labels(original, sampled, places, pad_token_id=1),
    )
    for module in modules:
        monkeypatch.setattr(module, "on_cuda", lambda value: True)
    found = unpack(block, 3_000, scale=0.5, dtype=torch.bfloat16)
    assert torch.equal(found, expected[0])
    out = torch.zeros(3_000, dtype=torch.bfloat16)
    assert unpack(block, 3_000, scale=0.5, out=out) is out
    assert torch.equal(out, expected[0])
    with pytest.raises(MetroFastError, match=r"dtype is torch\.float32 and out is given"):
        unpack(block, 3_000, dtype=torch.float32, out=out)
    with pytest.raises(MetroFastError, match=r"out has shape \(3000,\), expected \(9,\)"):
        unpack(block, 9, out=out)
    assert torch.equal(sample_replacements(logits, seed=3, epoch=4), expected[1])
    ids = torch.zeros(4, dtype=torch.int64)
    assert sample_replacements(logits, seed=3, epoch=4, out=ids) is ids
    assert torch.equal(ids, expected[1])
    targets = (torch.zeros_like(original), torch.zeros_like(original, dtype=torch.int8))
    for given in (None, targets):
        result = replaced_token_labels(original, sampled, places, pad_token_id=1, out=given)
        assert all(torch.equal(a, b) for a, b in zip(result, expected[2], strict=True))
    kernels = [launch.kernel for launch in emulated]
    assert kernels.count("unpack_flat_bf16") == kernels.count("sample_replacements_f32") == 2
    assert kernels.count("replaced_token_labels_scatter") == 2
