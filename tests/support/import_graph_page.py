"""The import graph as text: tables anyone can read, and a Mermaid picture."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import import_graph
from import_graph import EXPERTS, LEVELS

BEGIN = "<!-- import graph: made by `make docs` -->"
END = "<!-- end of import graph -->"


def reduced(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges without those that follow from others, so that the picture can be read."""
    direct: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        direct[source].add(target)
    return sorted(
        (source, target)
        for source, targets in direct.items()
        for target in targets
        if not any(
            target in import_graph.reach(other, direct) for other in targets if other != target
        )
    )


def table(pairs: Iterable[tuple[str, str]], levels: Mapping[str, int]) -> list[str]:
    """One line for each importer, from left to right."""
    imported: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        imported[source].add(target)

    def order(name: str) -> tuple[int, str]:
        return levels.get(name, 0), name

    return [
        f"{room:12} -> {', '.join(sorted(imported[room], key=order))}"
        for room in sorted(imported, key=order)
    ]


def render() -> str:
    """The graph of the rooms, and that of the rooms inside experts/."""
    outer, inner = import_graph.edges(), import_graph.inner_edges("experts")
    found = len(import_graph.all_circles())
    lines = ["Each room and the rooms it imports (all of them, measured):", ""]
    lines += ["```text", *table(outer, LEVELS), "```", ""]
    lines += [f"Inside `experts/` ({len(EXPERTS)} rooms, {len(inner)} arrows):", ""]
    lines += ["```text", *table(inner, EXPERTS), "```", ""]
    lines += [
        f"Arrows to the right: {len(import_graph.violations())}. Circles between files, between "
        f"the parts of a room, and between Rust modules: {found}.",
        "",
        "The rooms without what follows from the rest:",
        "",
        "```mermaid",
        "graph RL",
    ]
    lines += [
        f"    {source.replace('/', '_')}[{source}] --> {target.replace('/', '_')}[{target}]"
        for source, target in reduced(outer)
    ]
    lines.append("```")
    return "\n".join(lines)


def embed(text: str) -> str:
    """`text` with the graph put between its marker lines."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}"
