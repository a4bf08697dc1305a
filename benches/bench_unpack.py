"""ops.unpack of 50 M trits to 16 bits, against a copy of its output and other packers' decoders.

Run: `pytest benches/bench_unpack.py --benchmark-enable`. All write into one warm buffer, on one
thread: the copy is the limit, since nobody can be faster than writing the result.
"""

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.testing.strategies import random_trits

COUNT = 50 << 20
GROUP = "unpack 50 M to 16 bits, 1 thread"
LEVELS = ("scalar", "avx2", "avx512")


@pytest.fixture(scope="module")
def out():
    return np.zeros(COUNT, np.float16)


@pytest.fixture(scope="module")
def trits():
    return {density: random_trits(COUNT, density, 0) for density in (0.05, 0.2, 0.5)}


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_ours(benchmark, simd, trits, out, density, coding, level):
    packed = ops.pack(trits[density], coding=coding)
    simd(level)
    benchmark(lambda: ops.unpack(packed, COUNT, scale=0.01, out=out, num_threads=1))
    benchmark.extra_info["bits"] = 8 * packed.nbytes / COUNT


@pytest.mark.benchmark(group=GROUP)
def test_copy_of_the_output(benchmark, out):
    source = np.ones(COUNT, np.float16)
    benchmark(np.copyto, out, source)


@pytest.mark.benchmark(group="unpack 50 M to 16 bits, 2 threads")
def test_two_threads(benchmark, trits, out):
    packed = ops.pack(trits[0.2])
    benchmark(lambda: ops.unpack(packed, COUNT, scale=0.01, out=out, num_threads=2))


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
def test_gguf(benchmark, trits, name):
    """The numpy decoder of the gguf package (to float32): 1.69 and 2.06 bits, one scale per 256."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name]
    packed = gguf.quants.quantize(0.01 * trits[0.2].astype(np.float32).reshape(-1, 256), kind)
    found = gguf.quants.dequantize(packed, kind)
    assert (np.sign(found).reshape(-1) == trits[0.2]).all()
    benchmark.pedantic(lambda: gguf.quants.dequantize(packed, kind), rounds=3)
    benchmark.extra_info["bits"] = 8 * packed.nbytes / COUNT


@pytest.mark.benchmark(group=GROUP)
def test_bitnet_of_transformers(benchmark, trits):
    """`unpack_weights` of transformers' bitnet (2 bits), eager: it is made to be compiled."""
    torch = pytest.importorskip("torch")
    from transformers.integrations.bitnet import pack_weights, unpack_weights

    eager = getattr(unpack_weights, "_torchdynamo_orig_callable", unpack_weights)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    packed = pack_weights(torch.from_numpy(trits[0.2]).reshape(4096, -1))
    benchmark.pedantic(lambda: eager(packed, dtype=torch.bfloat16), rounds=3)
    torch.set_num_threads(threads)
    benchmark.extra_info["bits"] = 8 * packed.numel() / COUNT


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("density", [0.05, 0.2])
def test_zstd_of_two_masks(benchmark, trits, out, density):
    """zstd -3 on two bit masks, which numpy turns into values."""
    zstandard = pytest.importorskip("zstandard")
    masks = np.packbits(np.stack([trits[density] > 0, trits[density] < 0]))
    packed = zstandard.compress(masks, 3)
    values = np.array([0, 0.01], np.float16)

    def decode():
        bits = np.unpackbits(np.frombuffer(zstandard.decompress(packed), np.uint8))
        np.subtract(values[bits[:COUNT]], values[bits[COUNT:]], out=out)

    benchmark.pedantic(decode, rounds=3)
    benchmark.extra_info["bits"] = 8 * len(packed) / COUNT
