"""Who imports whom: read from the source text, printed as the graph of docs/architecture.md.

`python tests/support/import_graph.py` prints it; `--write FILE` puts it between the marker
lines of FILE. Python imports are taken from the syntax tree wherever they are (inside functions
too), Rust's from `use` lines and paths that name a crate or a module.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "metro_fast"
CRATES = {
    "core": ROOT / "rust" / "core" / "src",
    "rust/python": ROOT / "rust" / "python" / "src",
}

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
    "testing": 8,  # references for tests: no part of the library may import it
}
# The same inside of experts/, where `expert` is the file expert.py.
EXPERTS = {
    "adapters": 0,
    "file": 1,
    "hub": 2,
    "expert": 3,
    "compression": 4,
    "merging": 5,
    "plain": 5,
    "loading": 6,
    "pool": 7,
    "search": 7,
    "pictures": 8,
}
# Importer and imported, with the files that import.
Edges = dict[tuple[str, str], list[str]]


def room_of(module: str) -> str | None:
    """The room a dotted module name lives in, or None if it is not ours."""
    head, _, rest = module.partition(".")
    if head != "metro_fast":
        return None
    name = rest.partition(".")[0]
    if name == "_core":
        return "rust/python"
    return name if name in LEVELS else "base"


def inner_room_of(module: str, outer: str) -> str | None:
    """The folder or file of the room `outer` that a module belongs to, or None if it is outside."""
    head = f"metro_fast.{outer}."
    return module[len(head) :].partition(".")[0] if module.startswith(head) else None


def python_files() -> list[Path]:
    """Every Python file of the package but its face, whose rooms are imported when asked for."""
    return sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


def module_of(path: Path) -> str:
    """The dotted name of a Python file of the package."""
    parts = ("metro_fast", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def python_edges() -> Edges:
    """Edges between Python rooms, each with the files that make it."""
    edges: Edges = defaultdict(list)
    for path in python_files():
        relative = path.relative_to(PACKAGE)
        source = relative.parts[0] if relative.parts[0] in LEVELS else "base"
        if relative.name == "__main__.py":
            source = "cli"  # `python -m metro_fast` is the command line
        for module in imported_modules(path):
            target = room_of(module)
            if target is not None and target != source:
                edges[source, target].append(str(relative))
    return edges


def inner_edges(outer: str) -> Edges:
    """Edges between the folders and files of one Python room, its face `__init__.py` aside."""
    edges: Edges = defaultdict(list)
    for path in sorted((PACKAGE / outer).rglob("*.py")):
        source = inner_room_of(module_of(path), outer)
        if source is None:
            continue
        for module in imported_modules(path):
            target = inner_room_of(module, outer)
            # A name that the room's face offers is not a module of the room.
            known = target is not None and any(
                (PACKAGE / outer / f"{target}{end}").exists() for end in ("", ".py")
            )
            if target is not None and known and target != source:
                edges[source, target].append(str(path.relative_to(PACKAGE)))
    return edges


def module_edges() -> Edges:
    """Edges between single Python files of the package."""
    modules = {module_of(path): path for path in python_files()}
    edges: Edges = defaultdict(list)
    for source, path in modules.items():
        for module in imported_modules(path):
            target = module if module in modules else module.rpartition(".")[0]
            if target in modules and target != source:
                edges[source, target].append(str(path.relative_to(PACKAGE)))
    return edges


def rust_edges() -> Edges:
    """Edges between the crates, from `use` lines and qualified paths."""
    names = {"metro_fast_core": "core", "_core": "rust/python", "pyo3": "rust/python"}
    edges: Edges = defaultdict(list)
    for source, folder in CRATES.items():
        for path in sorted(folder.rglob("*.rs")):
            for crate in re.findall(r"\b(metro_fast_core|pyo3|numpy)::", rust_code(path)):
                target = names.get(crate, "rust/python")
                if target != source:
                    edges[source, target].append(str(path.relative_to(ROOT)))
    return edges


def rust_module_edges(crate: str) -> Edges:
    """Edges between the top modules of a crate, its unit tests aside."""
    folder = CRATES[crate]
    modules = {path.stem if path.is_file() else path.name for path in folder.iterdir()} - {"lib"}
    edges: Edges = defaultdict(list)
    for path in sorted(folder.rglob("*.rs")):
        source = Path(path.relative_to(folder).parts[0]).stem
        if source == "lib" or path.name == "tests.rs":
            continue
        code = rust_code(path).partition("#[cfg(test)]")[0]
        single = re.findall(r"\bcrate::(\w+)", code)
        several = re.findall(r"\bcrate::\{([^;]*)\}", code)
        names = {*single, *(name for group in several for name in re.findall(r"\w+", group))}
        for target in names & modules - {source}:
            edges[source, target].append(str(path.relative_to(ROOT)))
    return edges


def rust_code(path: Path) -> str:
    """The text of a Rust file without its comments."""
    return re.sub(r"//.*", "", path.read_text(encoding="utf-8"))


def edges() -> Edges:
    """All edges between rooms, with the files that make them."""
    return {**python_edges(), **rust_edges()}


def violations() -> list[str]:
    """Edges that run from left to right or between siblings, between rooms and inside experts/."""
    found = [
        (source, target, files, LEVELS)
        for (source, target), files in edges().items()
        if source != "testing"
    ]
    found += [(*pair, files, EXPERTS) for pair, files in inner_edges("experts").items()]
    return sorted(
        f"{source} imports {target} ({', '.join(sorted(set(files)))})"
        for source, target, files, levels in found
        if levels[target] >= levels[source]
    )


def circles(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The circles of a graph: each set of nodes that reach one another, sorted."""
    direct: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        direct[source].add(target)
    reached = {source: reach(source, direct) for source in direct}
    groups = {
        tuple(sorted(other for other in targets if source in reached.get(other, ())))
        for source, targets in reached.items()
        if source in targets
    }
    return sorted(list(group) for group in groups)


def reach(source: str, direct: Mapping[str, Iterable[str]]) -> set[str]:
    """Every node that can be reached from one, by at least one edge."""
    found: set[str] = set()
    waiting = list(direct.get(source, ()))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(direct.get(node, ()))
    return found


def all_circles() -> list[list[str]]:
    """The circles between files, between the parts of every room, and between Rust modules."""
    outer = [name for name in LEVELS if (PACKAGE / name).is_dir()]
    graphs = [module_edges(), *map(inner_edges, outer), *map(rust_module_edges, CRATES)]
    return [circle for graph in graphs for circle in circles(graph)]


if __name__ == "__main__":
    import import_graph_page

    if sys.argv[1:2] == ["--write"]:
        page = Path(sys.argv[2])
        page.write_text(import_graph_page.embed(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(import_graph_page.render() + "\n")
