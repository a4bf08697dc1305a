"""Values in messages: none by `!r`, which prints a text of ten megabytes as it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "python" / "metro_fast"
LEFT = {
    "_shown.py": "it is the function that messages use",
    "testing": "it checks what developers made",
}


def printed(source: str) -> Iterator[int]:
    """The lines of f-strings that format a value by `!r`, outside of what Python itself calls."""
    tree = ast.parse(source)
    own = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and function.name in ("__repr__", "__str__", "__getattr__")
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        is_value = isinstance(node, ast.FormattedValue) and node.conversion == ord("r")
        if is_value and id(node) not in own:
            yield node.lineno


def test_no_value_is_printed_whole() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in LEFT
        for line in printed(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"give {{quoted(value)}} of metro_fast._shown in {found}"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('raise ValueError(\n    f"{a} is {b!r}"\n)', [2]),
        ('def _say(a):\n    return f"{a!r}"', [2]),
        ('def __repr__(self):\n    return f"{self.a!r}"', []),
        ('raise ValueError(f"{quoted(a)} {a!s} {len(a)}")', []),
    ],
)
def test_what_the_rule_finds(source: str, lines: list[int]) -> None:
    assert list(printed(source)) == lines
