"""No native allocation ends the process: memory that is short is a MemoryError."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Every block above 16 kB is mapped, and given back when it is freed, so that limits bite.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "16384",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
    "MALLOC_ARENA_MAX": "1",
    "METRO_FAST_MAX_DECODED_BYTES": str(1 << 40),
}
OPERATIONS = (
    "corrupt_spans", "mask_tokens", "sample_replacements", "replaced_token_labels", "ternarize",
    "pack", "pack as a bitmask", "unpack", "planes", "merge", "similarity", "expert write",
    "expert read", "expert save", "decompress", "compress", "corpus open", "corpus blocks",
    "corpus rows",
)  # fmt: skip

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")


# 19 children of 2 to 10 seconds: each makes its inputs, and calls its operation 75 times.
@pytest.mark.slow
@linux
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_right_or_raises_memory_error(operation: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.short_memory", operation],
        cwd=ROOT, env=os.environ | MALLOC, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    counts = json.loads(run.stdout)
    assert counts["right"] > 0
    assert counts["short"] > 0


LEFT = (
    "(int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (60 << 20),) * 2"
)
FEWER = """
import resource
import numpy as np
from metro_fast import ops
trits = np.random.default_rng(0).integers(-1, 2, 4_000_000).astype(np.int8)
one = ops.pack(trits, num_threads=1)
resource.setrlimit(resource.RLIMIT_{limit})
assert np.array_equal(ops.pack(trits, num_threads=64), one)
"""


@linux
@pytest.mark.parametrize("limit", ["NPROC, (0, 0)", f"AS, {LEFT}"])
def test_threads_that_cannot_start_are_done_without(limit: str) -> None:
    """NPROC does not bind root, for whom the call has its 64 threads."""
    run = subprocess.run(
        [sys.executable, "-c", FEWER.format(limit=limit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
