"""ExpertPool.swap against PEFT's hot swap, with 72 LoRA modules of width 768 and rank 8.

Run: `pytest benches/bench_pool.py --benchmark-enable`. Ours starts from packed bytes in memory;
PEFT's from dense tensors in memory.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from metro_fast.experts import Expert, ExpertPool, compress, decompress
from metro_fast.experts.adapters.tensors import RawTensor

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.usefixtures("one_thread")

MODULES, WIDTH, RANK = 72, 768, 8
LINKS = {"10 Mb/s": 10e6, "100 Mb/s": 100e6, "1 Gb/s": 1e9}


class Stack(torch.nn.Module):
    """72 linear layers, like the q, k and v of 24 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(MODULES)
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def config():
    return peft.LoraConfig(r=RANK, lora_alpha=16, target_modules=r"layers\.\d+")


def experts(count: int) -> list:
    """Experts of one configuration with random weights."""
    model = peft.get_peft_model(Stack(), config())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        text = (Path(folder) / "adapter_config.json").read_bytes()
    result = []
    rng = np.random.default_rng(0)
    names = [f"base_model.model.layers.{i}.lora_{x}.weight" for i in range(MODULES) for x in "AB"]
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    for _ in range(count):
        state = {n: rng.standard_normal(shapes[n[-8]]).astype(np.float32) for n in names}
        expert = compress(state, density=0.05)
        expert.config = text
        result.append(expert)
    return result


@pytest.fixture(scope="module")
def some():
    return experts(4)


def pool_of(sources: list) -> ExpertPool:
    pool = ExpertPool(Stack(), num_threads=1)
    for i, expert in enumerate(sources):
        pool.add(f"e{i}", expert)
    return pool


@pytest.mark.benchmark(group="swap of 72 LoRA modules")
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_ours(benchmark, simd, some, level):
    pool = pool_of(some)
    simd(level)
    names = iter(range(10**9))
    benchmark(lambda: pool.swap(f"e{next(names) % len(some)}"))


@pytest.mark.benchmark(group="swap of 72 LoRA modules")
def test_hotswap_of_peft(benchmark, some):
    from peft.utils.hotswap import hotswap_adapter_from_state_dict

    pool = pool_of(some)
    states = [
        {
            name.replace(".weight", ".default.weight"): torch.from_numpy(values)
            for name, values in expert.arrays(np.float32).items()
        }
        for expert in some
    ]
    parsed = pool.model.peft_config["default"]
    names = iter(range(10**9))

    def swap():
        state = states[next(names) % len(states)]
        hotswap_adapter_from_state_dict(pool.model, dict(state), "default", parsed)

    benchmark.pedantic(swap, rounds=30, warmup_rounds=3)


@pytest.mark.benchmark(group="swap of 72 LoRA modules")
def test_load_state_dict_of_peft(benchmark, some):
    """The work of LoraHub at each trial."""
    pool = pool_of(some)
    states = [
        {name: torch.from_numpy(a) for name, a in expert.arrays(np.float32).items()}
        for expert in some
    ]
    names = iter(range(10**9))
    benchmark.pedantic(
        lambda: peft.set_peft_model_state_dict(pool.model, states[next(names) % len(states)]),
        rounds=10,
        warmup_rounds=1,
    )


@pytest.mark.benchmark(group="swap of 72 LoRA modules")
def test_copy_of_the_parameters(benchmark):
    """The limit: the parameters written once, from a warm buffer."""
    count = 2 * MODULES * RANK * WIDTH
    source, out = np.ones(count, np.float32), np.zeros(count, np.float32)
    benchmark(np.copyto, out, source)


@pytest.mark.benchmark(group="swap by the number of experts")
@pytest.mark.parametrize("count", [2, 50, 500])
def test_flat_in_the_number_of_experts(benchmark, count):
    # Copies of twenty experts, each with its own bytes.
    kinds = experts(min(count, 20))
    sources = [Expert(kinds[i % len(kinds)].file.copy(), kinds[0].config) for i in range(count)]
    before = psutil.Process().memory_info().rss
    files = [expert.file for expert in sources]
    pool = pool_of(sources)
    grown = psutil.Process().memory_info().rss - before
    # Never the same expert twice, and far apart in memory.
    order = iter(range(0, 10**9, 1 + count // 3))
    benchmark(lambda: pool.swap(f"e{next(order) % count}"))
    benchmark.extra_info |= {
        "packed_bytes_an_expert": pool.nbytes // count,
        "rss_bytes_an_expert_beside_its_file": grown // count,
        "files_bytes": sum(file.nbytes for file in files),
        "dense_bytes_an_expert": 4 * 2 * MODULES * RANK * WIDTH,
    }


@pytest.mark.benchmark(group="from disk to the first output")
@pytest.mark.parametrize("kind", ["ours", "peft"])
def test_cold_start(benchmark, some, tmp_path, kind):
    """An expert that is not in memory: read, checked, swapped in, one forward."""
    for i, expert in enumerate(some):
        expert.save(tmp_path / f"c{i}")
        decompress(expert, tmp_path / f"p{i}")
    x = torch.ones(1, WIDTH)
    names = iter(range(10**9))
    if kind == "ours":
        pool = pool_of(some)

        def start():
            i = next(names)
            name = f"new{i}"
            pool.add(name, tmp_path / f"c{i % len(some)}")
            with pool.use(name) as model, torch.no_grad():
                model(x)
    else:
        model = pool_of(some[:1]).model

        def start():
            i = next(names)
            model.load_adapter(tmp_path / f"p{i % len(some)}", f"new{i}", low_cpu_mem_usage=True)
            model.set_adapter(f"new{i}")
            with torch.no_grad():
                model(x)

    benchmark.pedantic(start, rounds=12, warmup_rounds=2)


@pytest.mark.benchmark(group="retrieve and swap")
def test_over_a_link(benchmark, some):
    """Bytes over bandwidth, plus the swap that is measured here: links are only calculated."""
    pool = pool_of(some)
    names = iter(range(10**9))
    benchmark(lambda: pool.swap(f"e{next(names) % len(some)}"))
    start = time.perf_counter()
    for i in range(20):
        pool.swap(f"e{i % len(some)}")
    swap = (time.perf_counter() - start) / 20
    dense = 2 * sum(RawTensor.of(a, "w").data.size for a in some[0].arrays().values())
    for name, bits in LINKS.items():
        ours, theirs = 8 * some[0].nbytes / bits + swap, 8 * dense / bits
        benchmark.extra_info[name] = {
            "compressed_ms": round(1e3 * ours, 2),
            "16_bit_ms": round(1e3 * theirs, 2),
            "ratio": round(theirs / ours, 1),
        }
    benchmark.extra_info["bytes"] = {"compressed": some[0].nbytes, "16_bit": dense}
