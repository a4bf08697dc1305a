"""The table that shows how much of each module's update compression kept."""

import statistics
from collections.abc import Sequence
from itertools import takewhile

from rich.table import Table

from metro_fast._shown import shown
from metro_fast.cli.console import plain_console
from metro_fast.experts import ModuleFidelity

SHORT, LONG = 0.5, 2.0
"""Beyond these medians of |dW'| / |dW| a warning is printed. At 20 % of six real adapters
(docs/experts.md) least squares keeps 0.56 to 0.83, and one standard deviation 0.19 to 0.46."""


def print_fidelity(modules: Sequence[ModuleFidelity], rows: int) -> None:
    """Print cosines and norm ratios by module, and what is lost.

    Args:
        modules: The result of `fidelity`.
        rows: The largest number of modules to list. If there are no more, all are listed by name;
            otherwise those with the lowest cosines, the lowest first.
    """
    worst = sorted(modules, key=lambda row: (row.cosine, row.module))
    listed = list(modules) if len(modules) <= rows else worst[:rows]
    console = plain_console()
    if listed:
        some = len(listed) < len(modules)
        title = f"the {len(listed)} that lost most" if some else "updates kept"
        start = common_start([row.module for row in modules])
        console.print(f"{title}, in {shown(start[:-1])}:" if start else f"{title}:")
        table = Table()
        table.add_column("module", overflow="fold")
        table.add_column("cosine", justify="right", no_wrap=True)
        table.add_column("length", justify="right", no_wrap=True)
        if any(row.erased for row in listed):
            table.add_column("")
        for row in listed:
            mark = ["erased" if row.erased else ""] if len(table.columns) > 3 else []
            name = shown(row.module.removeprefix(start))
            table.add_row(name, f"{row.cosine:.3f}", f"{row.norm_ratio:.3f}", *mark)
        console.print(table)
    if not modules:
        return
    cosines, ratios = _range([r.cosine for r in modules]), _range([r.norm_ratio for r in modules])
    console.print(
        f"{len(modules)} modules: cosine {cosines}; {sum(row.erased for row in modules)} erased. "
        f"Length |dW'| / |dW| {ratios}. "
        "Computed from the weights alone: judge the expert by its task scores."
    )


def length_warning(modules: Sequence[ModuleFidelity], *, fixed: bool) -> str | None:
    """The text of a warning if updates have another length than they had, or None.

    Args:
        modules: The result of `fidelity`.
        fixed: Whether alpha is a number, and not least squares.
    """
    if not modules:
        return None
    length = statistics.median(row.norm_ratio for row in modules)
    return None if SHORT <= length <= LONG else _changed_length(length, fixed=fixed)


def common_start(names: Sequence[str]) -> str:
    """The parts with which several names begin, with the dot that follows; the last part stays.

    Example:
        >>> common_start(["layers.0.q", "layers.1.q"])
        'layers.'
    """
    if len(names) < 2:
        return ""
    split = [name.split(".")[:-1] for name in names]
    first, last = min(split), max(split)
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return "".join(f"{part}." for part, _ in same)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}, median {statistics.median(values):.3f}"


def _changed_length(length: float, *, fixed: bool) -> str:
    """The text of a warning of a median of |dW'| / |dW| far from 1, with a remedy."""
    if length < SHORT:
        remedy = "raise --alpha, or leave it out for least squares" if fixed else "raise --density"
    else:
        remedy = "lower --alpha, or leave it out" if fixed else "use --scope tensor"
    return f"the updates have {length:.3g} times their length (median of |dW'| / |dW|): {remedy}"
