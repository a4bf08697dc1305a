"""A file has one topic and a function fits on a screen; what is longer has its reason here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 60  # its docstring aside

REASONS = {
    "python/metro_fast/experts/file/expert_file.py": "one class: the file, and its decoding",
    "examples/compose.py": "one experiment from data to table, read from top to bottom",
    "python/metro_fast/_training/trainer.py": "one class, with the stock trainer's methods",
    "python/metro_fast/experts/adapters/config_fields.py": "a table with one line for each field",
    "python/metro_fast/cli/evaluate.py::evaluate_command": "one option of the command a parameter",
    "examples/demo.py": "the whole demo, read from top to bottom",
    "examples/demo.py::main": "the nine stages of the demo in their order",
    "examples/demo_data.py": "the texts and wordings that the demo learns from are data",
    "python/metro_fast/_core.pyi": "the types of one module, in the order of its rooms",
    "python/metro_fast/ops/cuda/head_kernel.py::_sweep": "the steps of one block in their order",
    "python/metro_fast/ops/cuda/kernels.py": "one function for each kernel, with the same checks",
    "rust/core/src/simd/quads/tests.rs::run": "one match over formats and instruction sets",
    "rust/core/src/ternary/stages.rs": "the three passes of compression, which share their state",
    "fuzz/src/lib.rs::expert_file": "the layout of a file in the order of its bytes",
}


def sources() -> Iterator[tuple[str, list[str]]]:
    """The name and lines of every file that people read to understand the package."""
    for room in ("python/metro_fast", "rust", "cuda", "fuzz/src", "fuzz/fuzz_targets", "examples"):
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in {".py", ".pyi", ".rs", ".cu", ".cuh"} and "target" not in path.parts:
                name = str(path.relative_to(ROOT))
                yield name, path.read_text(encoding="utf-8").splitlines()


def python_functions(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Each function of a Python file and its number of lines without the docstring."""
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1
            yield node.name, length - len((documented or "").splitlines())


def rust_functions(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Each function of a Rust file and its number of lines, by rustfmt's indentation."""
    for start, line in enumerate(lines):
        found = re.match(r"( *)(?:pub(?:\(\w+\))? )?(?:const )?(?:unsafe )?fn (\w+)", line)
        if found and not line.rstrip().endswith(("}", ";")):
            # A function of a trait may have no body, and end with its arguments.
            ending = re.compile(rf"{found[1]}(\}}|\).*;$)")
            yield (
                found[2],
                next((i + 1 for i, end in enumerate(lines[start:]) if ending.match(end)), 1),
            )


def test_what_is_long_has_a_reason() -> None:
    long: set[str] = set()
    for name, lines in sources():
        if len(lines) > LINES_OF_A_FILE:
            long.add(name)
        functions = python_functions if name.endswith((".py", ".pyi")) else rust_functions
        long |= {f"{name}::{f}" for f, size in functions(lines) if size > LINES_OF_A_FUNCTION}
    assert long == set(REASONS)
