"""Ctrl-C during one long native call, and files that would wait for ever."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metro_fast import ops
from metro_fast._regular import read_array
from metro_fast.data import TokenCorpus
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert, compress

LIMIT = 0.3

# Each makes its input in little memory, and `run`, one native call on a gigabyte or 10^9 values.
CALLS = {
    "pack": "x = np.zeros(1 << 30, np.int8); x[::7] = 1\nrun = lambda: ops.pack(x, num_threads=T)",
    "unpack": """
packed = ops.pack(np.resize(np.array([0, 0, 1, 0, -1], np.int8), 1 << 28))
out = np.empty(1 << 28, np.float32)
run = lambda: [_core.unpack(packed, 0.5, "f32", out, T) for _ in range(1)]
""",
    "ternarize": """
x = np.resize(np.arange(-1000, 1000, dtype=np.float32), 1 << 28)
run = lambda: ops.ternarize(x, density=0.1, num_threads=T)
""",
    "sample_replacements": """
x = np.zeros((1 << 13, 1 << 15), np.float32)
run = lambda: ops.sample_replacements(x, num_threads=T)
""",
    "crc32c": """
x = np.zeros(1 << 30, np.uint8)
run = lambda: _core.crc32c(x)
""",
    "mask_tokens": """
x = np.full((1 << 12, 1 << 14), 9, np.uint16)
run = lambda: ops.mask_tokens(x, mask_token_id=3, vocab_size=99, num_threads=T)
""",
    "corrupt_spans": """
x = np.full((1 << 15, 1 << 10), 9, np.uint16)
run = lambda: ops.corrupt_spans(x, num_threads=T)
""",
    "read": """
from metro_fast._regular import read_array
run = lambda: read_array(path)
""",
    "write": """
from metro_fast._atomic import write_atomically
x = np.zeros(1 << 30, np.uint8)
run = lambda: write_atomically(path, x)
""",
    "encode": """
x = np.zeros(1 << 30, np.uint8)
run = lambda: _core.encode_safetensors([("x", "U8", [1 << 30], x)], {})
""",
}

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from metro_fast import _core, ops
T = int(sys.argv[1])
path = Path(sys.argv[2])
{make}
before = time.monotonic()
answered = []
def alarm(signum, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        run()
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


def time_to_answer(name: str, threads: int, path: Path) -> float:
    """Seconds from Ctrl-C in the middle of a call to the exception."""
    program = PROGRAM.format(make=CALLS[name])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(threads), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(0.35)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        return float(process.stdout.readline()) - sent


@pytest.mark.slow  # a call on a gigabyte needs its seconds
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CALLS)
def test_a_long_call_answers_within_a_third_of_a_second(name: str, threads: int, tmp_path: Path):
    path = tmp_path / "file"
    if name == "read":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    # On a machine with other work the scheduler alone takes as long: one of three tries must do.
    took = LIMIT
    for _ in range(3):
        took = time_to_answer(name, threads, path)
        print(f"{name}, {threads} threads: {1000 * took:.0f} ms")
        if took < LIMIT:
            break
    assert took < LIMIT
    if name == "write":
        assert list(tmp_path.iterdir()) in ([], [path])


def test_a_handler_that_raises_nothing_does_not_end_the_call():
    logits = np.zeros((1 << 11, 1 << 15), np.float32)
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        drawn = ops.sample_replacements(logits, num_threads=2)
        ended = time.monotonic()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(drawn, ops.sample_replacements(logits, num_threads=1))
    assert handled
    assert handled[0] <= ended


def irregular(folder: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    return path


def expert(folder: Path, path: Path) -> object:
    (folder / "adapter_model.compeft.safetensors").symlink_to(path)
    return Expert.load(folder)


def adapter(folder: Path, path: Path) -> object:
    plain = folder / "adapter.safetensors"
    plain.symlink_to(path)
    return compress(plain)


def expert_file(folder: Path, path: Path) -> object:
    return Expert.load(path)


def array_file(folder: Path, path: Path) -> object:
    (folder / "x.npy").symlink_to(path)
    return compress(folder / "x.npy")


def archive(folder: Path, path: Path) -> object:
    (folder / "x.npz").symlink_to(path)
    return compress(folder / "x.npz")


def pickle(folder: Path, path: Path) -> object:
    (folder / "x.bin").symlink_to(path)
    return compress(folder / "x.bin")


def pair(folder: Path, path: Path) -> object:
    (folder / "pair.idx").symlink_to(path)
    (folder / "pair.bin").write_bytes(b"")
    return TokenCorpus(folder / "pair", block_size=8)


def datatrove(folder: Path, path: Path) -> object:
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "a.ds").write_bytes(b"")
    (corpus / "a.ds.metadata").symlink_to(path)
    return TokenCorpus(corpus, block_size=8)


DOORS = (expert, expert_file, adapter, array_file, archive, pickle, pair, datatrove)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
@pytest.mark.parametrize("door", DOORS)
def test_only_regular_files_are_opened(door: object, kind: str, tmp_path: Path):
    """A FIFO hung here for ever, and Ctrl-C did not end it; a device filled the memory."""
    path = irregular(tmp_path, kind)
    name = {"fifo": "a FIFO", "socket": "a socket", "device": "a device"}[kind]
    with pytest.raises(MetroFastError, match=f"is {name}, expected a regular file"):
        door(tmp_path, path)  # type: ignore[operator]


def test_a_folder_and_a_missing_file_keep_the_systems_error(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        read_array(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "nothing")
    (tmp_path / "some").write_bytes(b"0123456789")
    assert read_array(tmp_path / "some", 3, 4).tobytes() == b"3456"
    assert read_array(tmp_path / "some", 8, 4).tobytes() == b"89"
