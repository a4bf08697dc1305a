"""The losses of compression, module by module."""

import statistics
from collections.abc import Callable, Sequence

from metro_fast._page import Section, figure, table
from metro_fast.experts.adapters.updates import ERASED_COSINE, ModuleFidelity
from metro_fast.experts.pictures.heat_map import BLUE, heat_map
from metro_fast.experts.pictures.histogram import histogram
from metro_fast.experts.pictures.page import map_figure
from metro_fast.experts.pictures.places import in_order, places_of

_LISTED = 20


def loss_sections(modules: Sequence[ModuleFidelity]) -> list[Section]:
    """Maps of cosine and length by layer and module, how often each cosine occurs, and the worst.

    Args:
        modules: The result of `fidelity`, at least one.

    Example:
        >>> sections = loss_sections([ModuleFidelity("layers.0.q", 0.1, 0.5)])
        >>> [section.heading for section in sections][:2]
        ['What is lost: cosine by layer and module', 'What is lost: length by layer and module']
    """
    erased = sum(row.erased for row in modules)
    cosines = [row.cosine for row in modules]
    picture = histogram(
        cosines,
        [1.0] * len(cosines),
        reach=(min(0.0, *cosines), 1.0),
        unit="modules",
        form=lambda value: f"{value:.2f}",
        things="modules",
        axis="cosine between the update before and after",
    )
    summary = (
        f"{len(modules)} modules: cosine {min(cosines):.3f} to {max(cosines):.3f}, median "
        f"{statistics.median(cosines):.3f}; {erased} erased (below {ERASED_COSINE})."
    )
    worst = sorted(modules, key=lambda row: (row.cosine, row.module))[:_LISTED]
    rows = [
        [row.module, f"{row.cosine:.3f}", f"{row.norm_ratio:.3f}", "erased" if row.erased else ""]
        for row in worst
    ]
    head = ["module", "cosine", "length", ""]
    start = "What is lost: "
    return [
        Section(
            f"{start}cosine by layer and module",
            _map(
                modules,
                "Cosine",
                lambda row: row.cosine,
                "Cosine between the update of a module before and after: 1 (dark) is kept, 0 "
                f"(pale) is lost. {summary}",
            ),
        ),
        Section(
            f"{start}length by layer and module",
            _map(
                modules,
                "Length",
                lambda row: row.norm_ratio,
                "Length of the update after, divided by the length before: 1 is kept.",
            ),
        ),
        Section(f"{start}distribution of cosines", figure(picture, summary)),
        Section(
            f"{start}the modules that lost most",
            table(head, rows, label="The modules that lost most"),
        ),
    ]


def _map(
    modules: Sequence[ModuleFidelity],
    name: str,
    value: Callable[[ModuleFidelity], float],
    caption: str,
) -> str:
    places = places_of([row.module for row in modules])
    found = {places[row.module]: value(row) for row in modules}
    layers = in_order([layer for layer, _ in places.values()])
    columns = list(dict.fromkeys(column for _, column in sorted(places.values())))
    heat = heat_map(
        layers,
        columns,
        [[found.get((layer, column)) for column in columns] for layer in layers],
        description=f"{name} of {len(modules)} updates by layer and module",
        form=lambda number: f"{number:.3f}",
        short=lambda number: f"{number:.2f}",
        reach=(0.0, max(1.0, *found.values())),
        color=BLUE,
    )
    return map_figure(heat, caption, label=f"{name} by layer and module")
