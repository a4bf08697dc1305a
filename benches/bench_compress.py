"""experts.compress against ComPEFT's algorithm in plain torch, and the sizes of its files.

Run: `pytest benches/bench_compress.py --benchmark-enable`. The peer is written from the
description of the algorithm (flatten by sorted names, kthvalue threshold, std of the whole vector,
alpha * std * sign, written back as dense floats), not from anyone's code. It makes no file.
"""

import copy
import time

import numpy as np
import pytest

from metro_fast import _core
from metro_fast.experts import compress
from metro_fast.experts.file.describe import entropy

MODULES = 32
RANK = 64
WIDTH = 4096


def adapter() -> dict[str, np.ndarray]:
    """A LoRA of 16.8 million float32 parameters."""
    rng = np.random.default_rng(0)
    state = {}
    for i in range(MODULES):
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


LARGE = [f"layers.{i}.lora_{factor}.weight" for i in range(32) for factor in "AB"]


def large() -> dict[str, np.ndarray]:
    """A LoRA of 50.3 million float32 parameters."""
    rng = np.random.default_rng(0)
    shapes = {"A": (64, 12288), "B": (12288, 64)}
    return {
        name: rng.standard_normal(shapes[name[-8]], np.float32) * np.float32(2e-3) for name in LARGE
    }


@pytest.mark.benchmark(group="compress 50 M, 1 thread")
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_large_to_file(benchmark, simd, level, tmp_path):
    """To a written file, without waiting for the disk; extra_info has the time of each stage."""
    simd(level)
    state = large()

    def run():
        expert = compress(state, density=0.2, num_threads=1)
        (tmp_path / "expert").write_bytes(expert.file.data)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    parts = [(name, values.reshape(-1)) for name, values in state.items()]
    starts = [i * parts[0][1].size for i in range(len(parts))]
    trits = np.zeros(sum(values.size for _, values in parts), np.int8)
    stages = {
        "ternarize": lambda: _core.ternarize(parts, starts, trits, 0.2, 1.0, 1),
        "pack": lambda: _core.pack(trits, "t4", None, 1),
        "compress": lambda: compress(state, density=0.2, num_threads=1),
    }
    for name, stage in stages.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            stage()
            times.append(time.perf_counter() - start)
        benchmark.extra_info[f"{name}_ms"] = round(1e3 * sorted(times)[2], 1)


@pytest.mark.benchmark(group="compress 50 M, 1 thread")
def test_large_compeft_in_torch(benchmark):
    """ComPEFT's whole path: sorted copies, flat vector, mask by kthvalue, its check, state dict."""
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in large().items()}
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def compeft():
        ordered = dict(sorted(copy.deepcopy(state).items()))
        flat = torch.nn.utils.parameters_to_vector(list(ordered.values()))
        rows = flat.unsqueeze(0)
        keep = rows.shape[1] - int(rows.shape[1] * 0.2)
        threshold = rows.abs().kthvalue(keep, dim=1, keepdim=True).values
        mask = rows.abs() >= threshold
        kept = (rows * mask).squeeze(0)
        assert kept[~mask.squeeze(0)].abs().sum() == 0
        ternary = 1.0 * flat.std() * kept.sign()
        out = dict(sorted(copy.deepcopy(state).items()))
        torch.nn.utils.vector_to_parameters(ternary, list(out.values()))
        return out

    benchmark.pedantic(compeft, rounds=3, warmup_rounds=1)
    torch.set_num_threads(before)
