"""The output of `metro-fast expert compress`: one screen, everything, nothing, or JSON."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from metro_fast._shown import shown
from metro_fast.cli.console import plain_console
from metro_fast.cli.expert_compress_one import Made
from metro_fast.cli.expert_fidelity import print_fidelity
from metro_fast.cli.expert_inspect import print_tensors, print_totals
from metro_fast.experts import ModuleFidelity

VERSION = 1
"""Version of the JSON; a field that is added does not change it, one that changes does."""


def print_made(made: Made, rows: int, *, verbose: bool) -> None:
    """Print one expert: its groups, its size, and how much of its updates it keeps.

    Args:
        made: What became of the source.
        rows: The largest number of modules to list.
        verbose: Whether to list every tensor and every module.
    """
    if made.expert is None:
        kept, total = made.entries
        form = "plain PEFT folder" if made.target.is_dir() else "plain tensors"
        typer.echo(f"{made.target}: {form}, {kept:,} of {total:,} entries kept")
        return
    if verbose:
        print_tensors(made.expert, made.target)
    print_totals(made.expert, made.target)
    print_fidelity(made.modules, max(rows, len(made.modules)) if verbose else rows)


def print_overview(made: Sequence[Made], refused: Sequence[tuple[Path, str]]) -> None:
    """Print one line for each source, then how many there are.

    Args:
        made: The experts.
        refused: The sources that became none, with the reasons.
    """
    table = Table()
    table.add_column("adapter", overflow="fold")
    for column in ("bytes", "ratio", "cosine", "length", "erased"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in made:
        table.add_row(shown(each.target.name), *_figures(each))
    for source, _ in refused:
        table.add_row(shown(str(source)), "refused", "", "", "", "")
    console = plain_console()
    console.print(table)
    size = sum(each.nbytes for each in made)
    end = f", {len(refused)} refused" if refused else ""
    console.print(f"{len(made)} written, {size:,} bytes{end}")
    if any(each.modules for each in made):
        console.print(
            "cosine and length |dW'| / |dW|: medians over the modules; --verbose lists them. "
            "Computed from the weights alone: judge the experts by their task scores."
        )


def as_json(made: Sequence[Made], refused: Sequence[tuple[Path, str]]) -> str:
    """Everything that the tables say, as one JSON object (docs/experts.md)."""
    found = {
        "version": VERSION,
        "experts": [_record(each) for each in made],
        "refused": [{"source": str(source), "reason": reason} for source, reason in refused],
    }
    return json.dumps(found, indent=2, allow_nan=False)


def _figures(made: Made) -> tuple[str, str, str, str, str]:
    size = f"{made.nbytes:,}"
    if made.expert is None or not made.modules:
        kept, total = made.entries
        return size, "", "", "", f"{kept / max(total, 1):.1%} kept" if total else ""
    return (
        size,
        f"{made.expert.ratio:.1f}x",
        f"{statistics.median(row.cosine for row in made.modules):.3f}",
        f"{statistics.median(row.norm_ratio for row in made.modules):.3f}",
        f"{sum(row.erased for row in made.modules)} of {len(made.modules)}",
    )


def _record(made: Made) -> dict[str, Any]:
    record: dict[str, Any] = {
        "source": str(made.source),
        "target": str(made.target),
        "kind": made.kind,
        "bytes": made.nbytes,
        "warnings": made.warnings,
    }
    if made.expert is None:
        kept, total = made.entries
        return record | {"pruned": {"entries_kept": kept, "entries": total}}
    expert = made.expert
    groups = [
        {
            "name": group.name,
            "density": group.density,
            "alpha": group.alpha,
            "scale": float(scale),
        }
        for group, scale in zip(expert.manifest.groups, expert.scales, strict=True)
    ]
    return record | {
        "parameters": expert.manifest.parameters,
        "bits_per_parameter": expert.bits_per_parameter,
        "ratio": expert.ratio,
        "groups": groups,
        "fidelity": _fidelity(made.modules, exact=made.exact),
    }


def _fidelity(modules: Sequence[ModuleFidelity], *, exact: bool) -> dict[str, Any]:
    return {
        "exact": exact,
        "erased": sum(row.erased for row in modules),
        "cosine": _spread([row.cosine for row in modules]),
        "norm_ratio": _spread([row.norm_ratio for row in modules]),
        "modules": [
            {
                "module": row.module,
                "cosine": row.cosine,
                "norm_ratio": row.norm_ratio,
                "erased": row.erased,
            }
            for row in modules
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """The lowest, the median and the highest; None without values."""
    if not values:
        return None
    return {"lowest": min(values), "median": statistics.median(values), "highest": max(values)}
