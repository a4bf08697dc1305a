"""`make cuda-check`: compile every kernel for every architecture, and hold it to its budget.

Needs no GPU: NVRTC comes with torch, the disassembler with triton. Fails on an error of the
compiler, on a spilled register, and on a kernel that takes more than cuda/budgets.toml lets it.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cuda.bindings import nvrtc

ROOT = Path(__file__).resolve().parents[1]
CUDA = ROOT / "cuda"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
FLAGS = ("--std=c++17", "--fmad=false", "-ftz=false", "--ptxas-options=-v")


@dataclass(frozen=True)
class Kernel:
    """What the compiler says of a kernel.

    Attributes:
        name: Its name.
        registers: Of a thread.
        spills: Bytes that do not fit into them.
        shared: Bytes of static shared memory.
    """

    name: str
    registers: int
    spills: int
    shared: int


def compiled(source: Path, architecture: str) -> tuple[bytes, list[Kernel]]:
    """A cubin, and its kernels.

    Raises:
        SystemExit: If it does not compile; with the compiler's log.
    """
    headers = sorted(CUDA.glob("*.cuh"))
    error, program = nvrtc.nvrtcCreateProgram(
        source.read_bytes(),
        source.name.encode(),
        len(headers),
        [header.read_bytes() for header in headers],
        [header.name.encode() for header in headers],
    )
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, error
    options = [flag.encode() for flag in (*FLAGS, f"--gpu-architecture={architecture}")]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = b" " * size
    nvrtc.nvrtcGetProgramLog(program, log)
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        sys.exit(f"{source.name} for {architecture}: {result}\n{log.decode()}")
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = b" " * size
    nvrtc.nvrtcGetCUBIN(program, cubin)
    return cubin, kernels_of(log.decode(errors="replace"))


def kernels_of(log: str) -> list[Kernel]:
    """The kernels of a log of `ptxas -v`."""
    found = []
    for part in log.split("Compiling entry function '")[1:]:
        spills = re.findall(r"(\d+) bytes spill", part)
        stack = int(re.search(r"(\d+) bytes stack frame", part)[1])  # type: ignore[index]
        registers = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        assert registers, part
        assert len(spills) == 2, part
        found.append(
            Kernel(
                part.partition("'")[0],
                int(registers[1]),
                sum(map(int, spills)) + stack,
                int(shared[1]) if shared else 0,
            )
        )
    return found


def disassembled(cubin: bytes) -> dict[str, list[str]]:
    """Instructions and labels of each kernel."""
    spec = find_spec("triton")
    assert spec is not None, "triton, which brings nvdisasm, comes with torch"
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "-c", file.name], capture_output=True, check=True)
    kernels: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in done.stdout.decode(errors="replace").splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            lines = kernels.setdefault(section[1], [])
        elif label := re.match(r"(\.L_x_\d+):", line):
            lines.append(label[1] + ":")
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,6}\*/\s+(.*?)\s*;", line):
            lines.append(instruction[1])
    return kernels


def t4_row(lines: list[str]) -> int:
    """Instructions of the shortest loop with two stores and two votes: a row that is written."""
    places, instructions, loops = {}, [], []
    for line in lines:
        if line.endswith(":"):
            places[line[:-1]] = len(instructions)
            continue
        instructions.append(line)
        jump = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line)
        if jump and jump[1] in places:
            loops.append(instructions[places[jump[1]] :])
    rows = [
        len(loop)
        for loop in loops
        if sum("STG" in i for i in loop) == 2 and sum("VOTE" in i for i in loop) == 2
    ]
    assert rows, "no loop has two stores and two votes: has the decoder changed?"
    return min(rows)


def main() -> int:
    """Print a table; the number of kernels over their budgets."""
    budgets = tomllib.loads((CUDA / "budgets.toml").read_text())
    over = []
    print(f"{'kernel':32}{'arch':8}{'registers':>10}{'spills':>8}{'shared':>8}  per 256 parameters")
    for source in sorted(CUDA.glob("*.cu")):
        for architecture in ARCHITECTURES:
            cubin, kernels = compiled(source, architecture)
            lines = disassembled(cubin)
            assert {kernel.name for kernel in kernels} == set(lines)
            for kernel in sorted(kernels, key=lambda kernel: kernel.name):
                row = t4_row(lines[kernel.name]) if kernel.name in budgets["t4_row"] else None
                print(
                    f"{kernel.name:32}{architecture:8}{kernel.registers:10}{kernel.spills:8}"
                    f"{kernel.shared:8}  {'' if row is None else row}"
                )
                if kernel.spills:
                    over.append(f"{kernel.name} for {architecture} spills {kernel.spills} bytes")
                if kernel.registers > budgets["registers"][kernel.name]:
                    over.append(f"{kernel.name} for {architecture}: {kernel.registers} registers")
                if row is not None and row > budgets["t4_row"][kernel.name]:
                    over.append(f"{kernel.name} for {architecture}: {row} instructions a row")
    for line in over:
        print(f"over budget: {line}", file=sys.stderr)
    return len(over)


if __name__ == "__main__":
    sys.exit(main())
