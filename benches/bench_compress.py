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
