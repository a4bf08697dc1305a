"""ExpertPool's decoding on a GPU: the host code, and the kernels run on the CPU."""

import ctypes
import itertools
from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from cuda_cases import flags
from cuda_emulator import At, Emulator, Launch, compiler
from metro_fast import MetroFastError
from metro_fast.experts import ExpertPool, compress, load_expert
from metro_fast.experts.pool import adapter as adapter_module
from metro_fast.experts.pool import cuda_decoder
from metro_fast.experts.pool.cuda_decoder import CudaDecoder
from metro_fast.ops import pack
from metro_fast.ops.cuda import kernels
from metro_fast.ops.cuda.pieces import SEGMENT, Piece, tables_of


class Beside:
    """A side stream without a GPU: all work is done at once."""

    def __init__(self, device) -> None:
        self.used: list[torch.Tensor] = []

    def beside(self):
        return nullcontext()

    def settle(self) -> None:
        pass

    def uses(self, tensor) -> None:
        self.used.append(tensor)

    def pinned(self, tensor):
        return tensor


class Memory:
    """The tensors to which tables point, as the emulator's buffers."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.launches = 0

    def find(self, address: int) -> At:
        for number, tensor in enumerate(self.tensors):
            offset = address - tensor.untyped_storage().data_ptr()
            if 0 <= offset < tensor.untyped_storage().nbytes():
                return At(number, offset)
        raise AssertionError(f"{address:#x} points nowhere")

    def arrays(self) -> list[np.ndarray]:
        found = []
        for tensor in self.tensors:
            storage = tensor.untyped_storage()
            memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
            found.append(np.frombuffer(memory, np.uint8))
        return found


@pytest.fixture(params=["host", "device"])
def pool_on(request, monkeypatch) -> tuple[type[ExpertPool], str, Memory]:
    """Pools whose arena on the CPU is filled by the decoder for GPUs."""
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    emulator, memory = Emulator(), Memory()

    def decoder_of(arena, num_threads, keep):
        decoder = CudaDecoder(arena, keep)
        memory.tensors = [arena.buffer]
        memory.decoder = decoder
        return decoder

    def launch(source, kernel, arguments, *, on, grid, block, shared_bytes=0) -> None:
        table, segments, works, streams, _ = arguments
        memory.launches += 1
        scratch = memory.decoder._scratch
        memory.tensors = [memory.tensors[0], table, *([] if scratch is None else [scratch])]
        blob = table.untyped_storage().data_ptr()
        base, length = table[:16].numpy().view(np.uint64)
        places = segments.data_ptr() - blob, works.data_ptr() - blob
        count = (places[1] - places[0]) // SEGMENT.itemsize
        all_of = segments[: count * SEGMENT.itemsize].numpy().view(SEGMENT)
        pointers = [(1, 0, memory.find(int(base)))]
        pointers += [
            (1, places[0] + SEGMENT.itemsize * i, memory.find(int(row["out"])))
            for i, row in enumerate(all_of)
            if row["count"]
        ]
        assert memory.find(int(base)).offset + length <= table.untyped_storage().nbytes()
        buffers = [*memory.arrays(), flags()]
        given = [At(1), At(1, places[0]), At(1, places[1]), streams.value, At(len(buffers) - 1)]
        one = Launch(kernel, grid, block, shared_bytes, buffers, pointers, given)
        (found,) = emulator.run([one])
        assert found[-1][0] == 0
        for number, (array, after) in enumerate(zip(buffers[:-1], found, strict=False)):
            if number != 1:  # the blob is only read, and comes back with other addresses
                array[:] = after

    monkeypatch.setattr(adapter_module, "decoder_of", decoder_of)
    monkeypatch.setattr(cuda_decoder, "SideStream", Beside)
    monkeypatch.setattr(kernels, "launch_on", launch)
    return ExpertPool, request.param, memory


def base(dtype=torch.float32):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(96, 200), torch.nn.ReLU(), torch.nn.Linear(200, 50)]
    return torch.nn.Sequential(*layers).to(dtype).eval()


def expert(seed: int, kind: str = "lora", dtype=torch.float32, **options):
    config = (
        peft.LoraConfig(**({"r": 8, "target_modules": ["0", "2"]} | options))
        if kind == "lora"
        else peft.IA3Config(target_modules=["0", "2"], feedforward_modules=[])
    )
    adapted = peft.get_peft_model(base(dtype), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = (parameter.data + noise).to(dtype)
    return compress(adapted, density=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_swaps_equal_those_of_the_cpu(pool_on, kind: str, dtype):
    """Bit-equal to load_expert, with the scaling folded in and after other experts."""
    make, keep, memory = pool_on
    experts = {str(seed): expert(seed, kind, dtype) for seed in range(3)}
    pool = make(base(dtype), keep=keep)
    for name, one in experts.items():
        pool.add(name, one)
    inputs = torch.randn(7, 96).to(dtype)
    before = memory.launches
    for name in ("1", "0", "2", "1"):
        with pool.use(name) as model, torch.no_grad():
            found = model(inputs)
        with torch.no_grad():
            expected = load_expert(base(dtype), experts[name])(inputs)
        assert torch.equal(found, expected)
    assert memory.launches - before == 4


def test_a_lower_rank_is_decoded_beside_and_padded(pool_on):
    make, keep, _ = pool_on
    high, low = expert(1), expert(2, r=3, lora_alpha=5)
    pool = make(base(), keep=keep)
    pool.add("high", high)
    pool.add("low", low)
    inputs = torch.randn(4, 96)
    for name, one in (("low", low), ("high", high), ("low", low)):
        with pool.use(name) as model, torch.no_grad():
            found = model(inputs)
        with torch.no_grad():
            expected = load_expert(base(), one)(inputs)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_larger_experts_make_more_room(pool_on):
    """The staging area moves: blobs that were made for its old address are still read correctly."""
    make, keep, _ = pool_on
    pool = make(base(), keep=keep)
    dense = compress(load_expert(base(), expert(9)), density=0.9)
    for name, one in (("a", expert(1)), ("b", dense), ("c", expert(3))):
        pool.add(name, one)
        with pool.use(name), torch.no_grad():
            pass
    inputs = torch.randn(4, 96)
    with pool.use("a") as model, torch.no_grad():
        assert torch.equal(model(inputs), load_expert(base(), expert(1))(inputs))


def test_packed_experts_are_kept_in_one_of_two_places():
    pool = ExpertPool(base(), keep="disk")
    with pytest.raises(MetroFastError, match="keep is 'disk', expected one of host, device"):
        pool.add("a", expert(1))


def test_tables():
    """The segments that each stream overlaps, with pieces on both sides of its ends."""
    count = 3 * 64 * 512
    block = np.asarray(pack(np.zeros(count, np.int8), steps=512))
    cuts = [0, 40, 32_768, 40_000, 65_536, count]
    pieces = [
        Piece(first, last - first, 1 << 20, -0.5, 0.0, 0.5)
        for first, last in itertools.pairwise(cuts)
    ]
    tables = tables_of(block, pieces[::-1])
    works = tables.works.view(np.uint32).reshape(-1, 4)
    assert works.tolist() == [[0, 0, 0, 2], [0, 1, 2, 4], [0, 2, 4, 5]]
    assert tables.segments.view(SEGMENT)["first"].tolist() == cuts[:-1]
    with pytest.raises(MetroFastError, match="before one ends at 40"):
        tables_of(block, [pieces[0], Piece(39, 5, 0, -1.0, 0.0, 1.0)])
    with pytest.raises(MetroFastError, match="adds other values"):
        tables_of(block, [Piece(0, 5, 0, 0.5, 1.0, 1.5, add=True)])
