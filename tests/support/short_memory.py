"""Run one operation under address-space limits that fail it at many places: a child of the tests.

Each limit leaves a little more than what is mapped already, from nothing up to more than the
operation takes. A call gives the right result or a MemoryError, and works once the limit is lifted.
"""

import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.forged_sizes import zero_block

from metro_fast import _core, ops
from metro_fast.data import TokenCorpus
from metro_fast.experts import Expert, compress, merge, similarity

THREADS = 3
LIMITS = 25


def corpus() -> TokenCorpus:
    """A corpus of two million ids in documents of 100."""
    folder = Path(tempfile.mkdtemp())
    ids = np.arange(2_000_000, dtype=np.uint16) % 30_000
    (folder / "a.ds").write_bytes(ids.tobytes())
    (folder / "a.ds.index").write_bytes(np.arange(100, ids.size + 1, 100, np.uint64).tobytes())
    (folder / "a.ds.metadata").write_text(f"t5|2\n{ids.size}\n")
    return TokenCorpus(folder, block_size=512)


def operations() -> dict[str, Callable[[], Any]]:
    """Each operation, on inputs that exist before a limit is set."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 30_000, (2_000, 512)).astype(np.int32)
    values = rng.standard_normal(2_000_000).astype(np.float32)
    trits = rng.integers(-1, 2, 4_000_000).astype(np.int8)
    packed = ops.pack(trits)
    logits = rng.standard_normal((20_000, 256)).astype(np.float32)
    weights = {f"layer.{i}": values[: 1 << 17].reshape(128, -1) * (1 + i) for i in range(8)}
    expert = compress(weights, kind="other", density=0.2)
    manifest = json.dumps(json.loads(_core.decode_expert(expert.file)[0]))
    zeros, text = zero_block(1 << 26), corpus()
    folder = Path(tempfile.mkdtemp())
    positions = np.arange(0, ids.size, 7)
    original = ids.astype(np.int64)
    t = {"num_threads": THREADS}
    return {
        "corrupt_spans": lambda: ops.corrupt_spans(ids, seed=1, **t).input_ids,
        "mask_tokens": lambda: (
            ops.mask_tokens(
                ids, mask_token_id=31_999, vocab_size=32_100, seed=1, **t
            ).masked_positions
        ),
        "sample_replacements": lambda: ops.sample_replacements(logits, seed=1, **t),
        "replaced_token_labels": lambda: (
            ops.replaced_token_labels(
                original, masked_positions=positions, sampled=positions % 9, pad_token_id=0, **t
            ).labels
        ),
        "ternarize": lambda: ops.ternarize(values, density=0.1, **t).trits,
        "pack": lambda: ops.pack(trits, **t),
        "pack as a bitmask": lambda: ops.pack(trits, coding="bitmask", **t),
        "unpack": lambda: ops.unpack(packed, trits.size, scale=0.5, **t),
        "planes": lambda: _core.planes(zeros, THREADS)[0][:9],
        "merge": lambda: merge([expert, expert], num_threads=THREADS).residuals["layer.0"].values,
        "similarity": lambda: similarity([expert, expert], num_threads=THREADS).matrix,
        "expert write": lambda: _core.encode_expert(manifest, expert.scales, expert.block, []),
        "expert read": lambda: Expert(expert.file.copy()).scales,
        "expert save": lambda: np.fromfile(Expert(expert.file).save(folder), np.uint8),
        "decompress": lambda: expert.arrays(num_threads=THREADS)["layer.7"],
        "compress": lambda: compress(weights, kind="other", density=0.2, num_threads=THREADS).file,
        "corpus open": lambda: np.array([len(corpus())]),
        "corpus blocks": lambda: text._files.cut("pack", 64, False).locate(
            np.arange(20_000), True, 1, 0
        )[1],
        "corpus rows": lambda: text._files.gather(
            np.arange(0, 10**6, 500), np.arange(500, 10**6 + 1, 500)
        ),
    }


def mapped() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limits(work: Callable[[], Any]) -> Iterator[int]:
    """Bytes that are left: from none up to twice what the operation maps, found by doubling."""
    need = 1 << 13
    while not allowed(work, need) and need < 1 << 31:
        need *= 2
    for step in range(LIMITS):
        yield 2 * need * step // LIMITS


def allowed(work: Callable[[], Any], left: int) -> Any:
    """The result under a limit that leaves so many bytes, or None after a MemoryError."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + left, most))
    try:
        found = work()
    except MemoryError:
        found = None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return None if found is None else [found]


def main() -> None:
    """Print how many calls were right and how many had too little memory."""
    work = operations()[sys.argv[1]]
    expected = work()
    right = short = 0
    for left in limits(work):
        found = allowed(work, left)
        if found is None:
            short += 1
        else:
            np.testing.assert_array_equal(found[0], expected)
            right += 1
        np.testing.assert_array_equal(work(), expected)
    print(json.dumps({"right": right, "short": short}))


if __name__ == "__main__":
    main()
