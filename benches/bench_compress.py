"""experts.compress against ComPEFT's algorithm in plain torch, and the sizes it reaches.

Run: `pytest benches/bench_compress.py --benchmark-enable`. The peer is written from the
description of the algorithm (flatten by sorted names, kthvalue threshold, std of the whole vector,
alpha * std * sign, written back as dense floats), not from anyone's code. It makes no file.
"""

import numpy as np
import pytest

from metro_fast.experts import compress
from metro_fast.experts.expert import entropy

MODULES = 32
RANK = 64
WIDTH = 4096


def adapter(modules: int = MODULES) -> dict[str, np.ndarray]:
    """A LoRA of 16.8 million float32 parameters, or of another number of modules."""
    rng = np.random.default_rng(0)
    state = {}
    for i in range(modules):
        for factor, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK))):
            values = rng.standard_t(6, shape).astype(np.float32) * np.float32(2e-3)
            state[f"base_model.model.layers.{i}.q_proj.lora_{factor}.weight"] = values
    return state


@pytest.mark.benchmark(group="compress 16.8 M")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_compress_to_file_bytes(benchmark, density, threads):
    state = adapter()
    expert = benchmark.pedantic(
        lambda: compress(state, density=density, num_threads=threads), rounds=3
    )
    bits = expert.bits_per_parameter
    benchmark.extra_info |= {"bits": bits, "over_shannon": bits / entropy(density)}


@pytest.mark.benchmark(group="compress 16.8 M")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_compeft_in_torch(benchmark, density, threads):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in adapter().items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def compeft():
        flat = torch.cat([state[name].reshape(-1) for name in sorted(state)])
        magnitude = flat.abs()
        kept = int(flat.numel() * density)
        threshold = magnitude.kthvalue(flat.numel() - kept).values
        ternary = flat.std() * torch.sign(flat * (magnitude >= threshold))
        out, start = {}, 0
        for name in sorted(state):
            size = state[name].numel()
            out[name] = ternary[start : start + size].reshape(state[name].shape)
            start += size
        return out

    benchmark.pedantic(compeft, rounds=3)
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="decode 16.8 M")
@pytest.mark.parametrize("threads", [1, 2])
def test_decode(benchmark, threads):
    expert = compress(adapter(), density=0.2)
    benchmark.pedantic(lambda: expert.arrays(num_threads=threads), rounds=5)


@pytest.fixture(scope="module")
def large():
    """50.3 million parameters."""
    return adapter(96)


@pytest.mark.benchmark(group="compress 50 M at 20 %, file written, 1 thread")
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_compress_50m(benchmark, simd, large, tmp_path, level):
    """With the file written, but not synced: a disk is not measured."""
    simd(level)

    def run():
        expert = compress(large, density=0.2, num_threads=1)
        expert.file.tofile(tmp_path / "expert")
        return expert

    expert = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info |= {
        "bytes": expert.nbytes,
        "over_shannon": 8 * expert.nbytes / 50_331_648 / entropy(0.2),
    }


@pytest.mark.benchmark(group="compress 50 M at 20 %, file written, 1 thread")
def test_compeft_50m(benchmark, large):
    """ComPEFT's whole path: copies, flattens, selects, checks what it dropped, writes back."""
    torch = pytest.importorskip("torch")
    from copy import deepcopy

    state = {name: torch.from_numpy(array) for name, array in large.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def compeft():
        copied = deepcopy(state)
        flat = torch.cat([copied[name].reshape(-1) for name in sorted(copied)])
        kept = int(flat.numel() * 0.2)
        rows = flat.reshape(1, -1)
        threshold = rows.abs().kthvalue(flat.numel() - kept, dim=1, keepdim=True).values
        mask = rows.abs() >= threshold
        chosen = (rows * mask).reshape(-1)
        assert torch.all(chosen[~mask.reshape(-1)] == 0)
        ternary = flat.std() * torch.sign(chosen)
        out = deepcopy(state)
        parts = torch.split(ternary, [out[name].numel() for name in sorted(out)])
        for name, part in zip(sorted(out), parts, strict=True):
            out[name] = part.reshape(out[name].shape)
        return out

    benchmark.pedantic(compeft, rounds=2)
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="compress 50 M at 20 %, file written, 1 thread")
def test_one_read_of_the_input(benchmark, large):
    """The limit: every value read once."""
    benchmark(lambda: [float(values.max()) for values in large.values()])
