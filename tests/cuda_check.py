"""`make cuda-check`: compile every kernel for every architecture, and check its budget.

Needs no GPU: NVRTC comes with torch, the disassembler with triton. The images are those that the
launcher makes, with its flags. Fails on an error of the compiler, on a spilled register, and on a
kernel that takes more than cuda/budgets.toml lets it.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from metro_fast import _core
from metro_fast.ops.cuda import launch

ROOT = Path(__file__).resolve().parents[1]
CUDA = ROOT / "cuda"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
TRITON = find_spec("triton")
assert TRITON is not None, "triton, which brings the tools, comes with torch"
TOOLS = Path(str(TRITON.origin)).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Kernel:
    """The compiler's figures for a kernel.

    Attributes:
        name: Its name.
        registers: Registers per thread.
        spills: Bytes that do not fit into them.
        shared: Bytes of static shared memory.
    """

    name: str
    registers: int
    spills: int
    shared: int


def kernels_of(cubin: Path) -> list[Kernel]:
    """The kernels of a cubin, from the linker's report."""
    report = output_of(TOOLS / "cuobjdump", "-res-usage", cubin)
    found = []
    for name, usage in re.findall(r"Function (\w+):\s+(.*)", report):
        size = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", usage)}
        # Values that do not fit into registers are kept on the stack, in local memory.
        spilled = size["STACK"] + size["LOCAL"]
        found.append(Kernel(name, size["REG"], spilled, size["SHARED"]))
    return found


def output_of(*command: str | Path) -> str:
    """The text that a tool prints."""
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode(errors="replace")


def disassembled(cubin: Path) -> dict[str, list[str]]:
    """Instructions and labels of each kernel."""
    kernels: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output_of(TOOLS / "nvdisasm", "-c", cubin).splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            lines = kernels.setdefault(section[1], [])
        elif label := re.match(r"(\.L_x_\d+):", line):
            lines.append(label[1] + ":")
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,6}\*/\s+(.*?)\s*;", line):
            lines.append(instruction[1])
    return kernels


def t4_row(lines: list[str]) -> int:
    """Instructions of the shortest loop with two stores and two votes, which writes a row."""
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
    """Print a table; returns the number of kernels over their budgets."""
    budgets = tomllib.loads((CUDA / "budgets.toml").read_text())
    over = []
    print(f"{'kernel':32}{'arch':8}{'registers':>10}{'spills':>8}{'shared':>8}  per 256 parameters")
    for source in sorted(CUDA.glob("*.cu")):
        for architecture in ARCHITECTURES:
            compiled, _ = _core.cuda_compile(
                source.name, architecture, nvrtc=launch.nvrtc_names(), cache=None, shipped=None
            )
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                file.write(compiled)
                file.flush()
                cubin = Path(file.name)
                kernels, lines = kernels_of(cubin), disassembled(cubin)
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
