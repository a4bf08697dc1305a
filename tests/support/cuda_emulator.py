"""The CUDA kernels on the CPU: the unchanged text of cuda/, built with g++ and run by cuda/host."""

import hashlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "cuda"
BUILT = ROOT / "target" / "cuda-host"
FLAGS = ["-std=c++17", "-O2", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-unknown-pragmas"]  # of unrolling
SANITIZERS = {
    "none": [],
    # Undefined behavior too: shifts, alignment, overflows.
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread", "-DSIMT_THREADS", "-pthread"],
}


@dataclass(frozen=True)
class At:
    """An address: a buffer of the launch, and an offset into it in bytes."""

    buffer: int
    offset: int = 0


@dataclass
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: Its name.
        blocks: Number of CTAs.
        threads: Threads per CTA, a multiple of 32.
        shared_bytes: Dynamic shared memory.
        buffers: Device memory, as it is before.
        pointers: Addresses inside buffers: (buffer, offset, what it points to).
        arguments: Buffers' addresses, integers, np.float32 or None.
    """

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int = 0
    buffers: list[NDArray[Any]] = field(default_factory=list)
    pointers: list[tuple[int, int, At]] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)

    def packed(self) -> bytes:
        """The launch in the format that cuda/host/run.cpp reads."""
        name = self.kernel.encode()
        parts = [struct.pack("<Q", len(name)), name]
        parts.append(struct.pack("<3Q", self.blocks, self.threads, self.shared_bytes))
        parts.append(struct.pack("<Q", len(self.buffers)))
        for array in self.buffers:
            parts += [struct.pack("<Q", array.nbytes), np.ascontiguousarray(array).tobytes()]
        parts.append(struct.pack("<Q", len(self.pointers)))
        for buffer, offset, to in self.pointers:
            parts.append(struct.pack("<4Q", buffer, offset, to.buffer, to.offset))
        parts.append(struct.pack("<Q", len(self.arguments)))
        for value in self.arguments:
            if isinstance(value, At):
                parts.append(struct.pack("<2Q", 1 + value.buffer, value.offset))
            elif isinstance(value, np.float32):
                parts.append(struct.pack("<Qf4x", 0, value))
            else:
                parts.append(struct.pack("<QQ", 0, 0 if value is None else value % 2**64))
        return b"".join(parts)


class Emulator:
    """Launches of one build.

    Args:
        sanitizer: `"none"`, `"address"` or `"thread"`.
    """

    def __init__(self, sanitizer: str = "none") -> None:
        self.program = build(sanitizer)

    def run(self, launches: Sequence[Launch]) -> list[list[NDArray[Any]]]:
        """The contents of the buffers of each launch afterwards.

        Raises:
            AssertionError: If the program fails, with the sanitizer's report.
        """
        with tempfile.TemporaryDirectory() as folder:
            task, result = Path(folder) / "in", Path(folder) / "out"
            body = b"".join(launch.packed() for launch in launches)
            task.write_bytes(struct.pack("<Q", len(launches)) + body)
            done = subprocess.run(
                [self.program, task, result], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (done.returncode, done.stderr[-4000:])
            data = result.read_bytes()
        found, at = [], 0
        for launch in launches:
            arrays = []
            for array in launch.buffers:
                piece = np.frombuffer(data, np.uint8, array.nbytes, at)
                arrays.append(piece.view(array.dtype).reshape(array.shape))
                at += array.nbytes
            found.append(arrays)
        assert at == len(data)
        return found


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which("g++") or shutil.which("clang++")


def build(sanitizer: str) -> Path:
    """The program of the present text, which is built once however many processes ask for it."""
    texts = sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh"), *SOURCES.glob("host/*")])
    flags = [*FLAGS, *SANITIZERS[sanitizer]]
    key = hashlib.sha256(" ".join(flags).encode())
    for text in texts:
        key.update(text.name.encode() + text.read_bytes())
    program = BUILT / f"run-{sanitizer}-{key.hexdigest()[:16]}"
    if program.exists():
        return program
    BUILT.mkdir(parents=True, exist_ok=True)
    with FileLock(program.with_suffix(".lock")):
        if program.exists():  # another process of the tests has built it
            return program
        command = [compiler(), *flags, "-include", "simt.hpp", "-I", str(SOURCES / "host")]
        temporary = program.with_suffix(".tmp")
        files = [str(SOURCES / "host" / name) for name in ("run.cpp", "simt.cpp")]
        done = subprocess.run(
            [*command, *files, "-o", str(temporary)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        temporary.replace(program)
    return program
