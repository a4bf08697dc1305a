"""Who imports whom: read from the source text, printed as the graph of docs/architecture.md.

`python tests/support/import_graph.py` prints it; `--write FILE` puts it between the marker
lines of FILE. Python imports are taken from the syntax tree wherever they are (inside functions
too), Rust's from `use` lines and paths that name a crate.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "metro_fast"

# From left to right: a room may import rooms of smaller level only, so siblings never meet.
LEVELS = {
    "core": 0,
    "rust/python": 1,
    "base": 2,  # beside the rooms, for any of them: errors, optional imports, ...
    "_training": 3,  # what the trainers of metro and tuning share
    "ops": 3,
    "data": 4,
    "experts": 4,
    "prompts": 4,
    "scoring": 5,
    "metro": 6,
    "tuning": 6,
    "robustness": 6,
    "analysis": 6,
    "cli": 7,
    "testing": 8,  # references for tests: nothing of the library may import it
}
BEGIN = "<!-- import graph: made by `make docs` -->"
END = "<!-- end of import graph -->"


def room_of(module: str) -> str | None:
    """The room a dotted module name lives in, or None if it is not ours."""
    head, _, rest = module.partition(".")
    if head != "metro_fast":
        return None
    name = rest.partition(".")[0]
    if name == "_core":
        return "rust/python"
    return name if name in LEVELS else "base"


def imported_modules(path: Path) -> Iterator[str]:
    """Every absolute module name that a Python file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import")
            base = node.module or ""
            # `from metro_fast import ops` names a room in the list, not in the module.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def python_edges() -> dict[tuple[str, str], list[str]]:
    """Edges between Python rooms, each with the files that make it."""
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "__init__.py":
            continue  # names the rooms for type checkers; it imports them when they are first used
        relative = path.relative_to(PACKAGE)
        source = relative.parts[0] if relative.parts[0] in LEVELS else "base"
        for module in imported_modules(path):
            target = room_of(module)
            if target is not None and target != source:
                edges[source, target].append(str(relative))
    return edges


def rust_edges() -> dict[tuple[str, str], list[str]]:
    """Edges between the crates, from `use` lines and qualified paths."""
    crates = {
        "core": ROOT / "rust" / "core" / "src",
        "rust/python": ROOT / "rust" / "python" / "src",
    }
    names = {"metro_fast_core": "core", "_core": "rust/python", "pyo3": "rust/python"}
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for source, folder in crates.items():
        for path in sorted(folder.rglob("*.rs")):
            code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
            for crate in re.findall(r"\b(metro_fast_core|pyo3|numpy)::", code):
                target = names.get(crate, "rust/python")
                if target != source:
                    edges[source, target].append(str(path.relative_to(ROOT)))
    return edges


def edges() -> dict[tuple[str, str], list[str]]:
    """All edges (importer, imported) with the files that make them."""
    return {**python_edges(), **rust_edges()}


def violations() -> list[str]:
    """Edges that run from left to right or between siblings."""
    return [
        f"{source} imports {target} ({', '.join(sorted(set(files)))})"
        for (source, target), files in sorted(edges().items())
        if source != "testing" and LEVELS[target] >= LEVELS[source]
    ]


def reduced() -> list[tuple[str, str]]:
    """The edges without those that follow from others, so that the picture can be read."""
    direct: dict[str, set[str]] = {room: set() for room in LEVELS}
    for source, target in edges():
        direct[source].add(target)

    def reach(source: str) -> set[str]:
        return {t for d in direct[source] for t in {d, *reach(d)}}

    return sorted(
        (source, target)
        for source, targets in direct.items()
        for target in targets
        if not any(target in reach(other) for other in targets if other != target)
    )


def render() -> str:
    """The graph as a list anyone can read and a Mermaid picture."""
    lines = ["Each room and the rooms it imports (all of them, measured):", "", "```text"]
    table = defaultdict(set)
    for source, target in edges():
        table[source].add(target)
    for room in sorted(table, key=lambda name: (LEVELS[name], name)):
        targets = sorted(table[room], key=lambda name: (LEVELS[name], name))
        lines.append(f"{room:12} -> {', '.join(targets)}")
    lines += [
        "```",
        "",
        "The same without what follows from the rest:",
        "",
        "```mermaid",
        "graph RL",
    ]
    lines += [
        f"    {source.replace('/', '_')}[{source}] --> {target.replace('/', '_')}[{target}]"
        for source, target in reduced()
    ]
    lines.append("```")
    return "\n".join(lines)


def embed(text: str) -> str:
    """`text` with the graph put between its marker lines."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        page = Path(sys.argv[2])
        page.write_text(embed(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(render() + "\n")
