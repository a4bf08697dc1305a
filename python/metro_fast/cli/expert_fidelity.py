"""The table that shows how much of each module's update compression kept."""

import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from metro_fast.experts import ModuleFidelity


def print_fidelity(modules: Sequence[ModuleFidelity], rows: int) -> None:
    """Print exact cosines and norm ratios by module, and how many modules are erased.

    Args:
        modules: The result of `fidelity`.
        rows: The largest number of modules to list. If there are no more, all are listed by name;
            otherwise those with the lowest cosines, the lowest first.
    """
    worst = sorted(modules, key=lambda row: (row.cosine, row.module))
    shown = list(modules) if len(modules) <= rows else worst[:rows]
    console = Console()
    if shown:
        title = "updates kept" if len(shown) == len(modules) else f"the {len(shown)} that lost most"
        table = Table(title=title)
        table.add_column("module", overflow="fold")
        table.add_column("cos(dW, dW')", justify="right")
        table.add_column("|dW'| / |dW|", justify="right")
        table.add_column("")
        for row in shown:
            mark = "erased" if row.erased else ""
            table.add_row(row.module, f"{row.cosine:.3f}", f"{row.norm_ratio:.3f}", mark)
        console.print(table)
    cosines = [row.cosine for row in modules]
    if cosines:
        console.print(
            f"{len(modules)} modules: cosine {min(cosines):.3f} to {max(cosines):.3f}, median "
            f"{statistics.median(cosines):.3f}; {sum(row.erased for row in modules)} erased. "
            "Computed from the weights alone: judge the expert by its task scores."
        )
