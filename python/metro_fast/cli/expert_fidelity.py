"""The table that shows how much of each module's update compression kept."""

import statistics
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table

from metro_fast.experts import ModuleFidelity

SHORT, LONG = 0.5, 2.0
"""Beyond these medians of |dW'| / |dW| a warning is printed. At 20 % of six real adapters
(docs/experts.md) least squares keeps 0.56 to 0.83, and one standard deviation 0.19 to 0.46."""


def print_fidelity(modules: Sequence[ModuleFidelity], rows: int, *, fixed: bool = False) -> None:
    """Print cosines and norm ratios by module, and what is lost; warn of a changed length.

    Args:
        modules: The result of `fidelity`.
        rows: The largest number of modules to list. If there are no more, all are listed by name;
            otherwise those with the lowest cosines, the lowest first.
        fixed: Whether alpha is a number, and not least squares.
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
    if not modules:
        return
    cosines, ratios = _range([r.cosine for r in modules]), _range([r.norm_ratio for r in modules])
    console.print(
        f"{len(modules)} modules: cosine {cosines}; {sum(row.erased for row in modules)} erased. "
        f"Length |dW'| / |dW| {ratios}. "
        "Computed from the weights alone: judge the expert by its task scores."
    )
    length = statistics.median(row.norm_ratio for row in modules)
    if not SHORT <= length <= LONG:
        typer.echo(f"warning: {_changed_length(length, fixed=fixed)}", err=True)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}, median {statistics.median(values):.3f}"


def _changed_length(length: float, *, fixed: bool) -> str:
    """The text of a warning of a median of |dW'| / |dW| far from 1, with a remedy."""
    if length < SHORT:
        remedy = "raise --alpha, or leave it out for least squares" if fixed else "raise --density"
    else:
        remedy = "lower --alpha, or leave it out" if fixed else "use --scope tensor"
    return f"the updates have {length:.3g} times their length (median of |dW'| / |dW|): {remedy}"
