"""`metro-fast expert inspect`: the tensors of an expert, densities, bits, ratio and checks."""

import json as json_text
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from metro_fast._atomic import write_atomically
from metro_fast._shown import shown
from metro_fast.cli.console import plain_console
from metro_fast.cli.expert_fidelity import common_start
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.unused import refuse_unused
from metro_fast.cli.verbosity import Json, Quiet, Verbose, refuse_several
from metro_fast.experts import Expert, fidelity
from metro_fast.experts.file.describe import TensorRow
from metro_fast.experts.pictures import expert_page

app = typer.Typer(add_completion=False)
_LISTED, _KINDS = 12, 14
"""Most tensors that are listed one by one on a screen, and most kinds of them: 14 for a Llama."""
_GROUPS = 3
"""Most groups that are listed one by one on a screen."""


@app.command()
def inspect_command(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="Folder or file of an expert, or its hf:// name.")],
    html: Annotated[
        Path | None,
        typer.Option(
            help="File to write a page to: density and scale by layer, bytes by part, and with "
            "--adapter the loss of each module."
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="With --html: the adapter that it was made of, to show what is lost."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="With --adapter: the values that compress subtracted.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Decode the whole expert as a check.")
    ] = True,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show the contents of a compressed expert, and decode the whole of it as a check."""
    refuse_several(verbose=verbose, quiet=quiet, json=json)
    if html is None:
        refuse_unused(ctx, "adapter", without="--html")
    if adapter is None:
        refuse_unused(ctx, "initial", without="--adapter")
    read = [each for each in (path, adapter, initial) if each is not None]
    refuse_inputs(html, "--html", *read)
    expert = Expert.load(path)
    if verify:
        expert.verify()
    if html is not None:
        kept = None if adapter is None else fidelity(adapter, expert, initial=initial)
        write_atomically(html, expert_page(expert, str(path), kept))
    if json:
        typer.echo(json_text.dumps(_record(expert, path, checked=verify), indent=2))
    if json or quiet:
        return
    if verbose or len(expert.manifest.tensors) + len(expert.dense) <= _LISTED:
        print_tensors(expert, path)
    else:
        _print_kinds(expert, path)
    print_totals(expert, path, every_group=verbose)
    if html is not None:
        typer.echo(f"wrote {html}")
    if verify:
        typer.echo("checks: head, every stream, every dense tensor and all padding are whole")


def print_tensors(expert: Expert, path: str | Path) -> None:
    """Print the table of all tensors.

    Args:
        expert: The expert.
        path: Its path, for the title.
    """
    rows = expert.describe()
    start = common_start([row["tensor"] for row in rows])
    console = plain_console()
    console.print(_heading(path, start))
    table = Table()
    table.add_column("tensor", overflow="fold")
    table.add_column("group", overflow="fold", max_width=12)
    for column in ("dtype", "shape", "density", "scale", "bits"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["tensor"].removeprefix(start),
            row["group"].removeprefix(start),
            row["dtype"],
            shown(_shape(row["shape"]), 20),
            f"{row['density']:.1%}",
            f"{row['scale']:.3g}",
            f"{row['bits']:.2f}",
        )
    console.print(table)


def print_totals(expert: Expert, path: str | Path, *, every_group: bool = False) -> None:
    """Print what an expert is, its groups and its size.

    Args:
        expert: The expert.
        path: Its path.
        every_group: Whether to list many groups too.
    """
    manifest = expert.manifest
    console = plain_console()
    base = "" if manifest.base.model is None else f", made for {shown(manifest.base.model)}"
    dense = f" and {len(manifest.dense)} dense" if manifest.dense else ""
    console.print(
        f"{shown(str(path))}: {manifest.kind}, {len(manifest.tensors)} ternary{dense} tensors{base}"
    )
    if len(manifest.groups) <= _GROUPS or every_group:
        for group, scale in zip(manifest.groups, expert.scales, strict=True):
            console.print(
                f"group {shown(group.name)}: density {group.density:g}, alpha {group.alpha:.3f}, "
                f"scale {float(scale):.6g}"
            )
    else:
        console.print(
            f"{len(manifest.groups)} groups: density {_reach(g.density for g in manifest.groups)}, "
            f"alpha {_reach(g.alpha for g in manifest.groups)}, "
            f"scale {_reach(float(scale) for scale in expert.scales)}"
        )
    console.print(
        f"{manifest.parameters:,} parameters in {expert.nbytes:,} bytes: "
        f"{expert.bits_per_parameter:.3f} bits per parameter, "
        f"{expert.ratio:.1f}x smaller than 16-bit weights"
    )


def _print_kinds(expert: Expert, path: str | Path) -> None:
    """Print one line for the tensors whose names differ in numbers alone."""
    kinds: dict[str, list[TensorRow]] = {}
    for row in expert.describe():
        name = re.sub(r"(?<![^.:_])\d+(?![^.:_])", "*", row["tensor"])
        kinds.setdefault(name.removesuffix(".weight"), []).append(row)
    start = common_start(list(kinds))
    console = plain_console()
    console.print(_heading(path, start))
    table = Table()
    table.add_column("tensors", overflow="fold")
    for column in ("number", "shape", "density", "bits"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, rows in list(kinds.items())[:_KINDS]:
        shapes = {_shape(row["shape"]) for row in rows}
        table.add_row(
            shown(name.removeprefix(start)),
            str(len(rows)),
            shown(shapes.pop(), 16) if len(shapes) == 1 else "several",
            _percents([row["density"] for row in rows]),
            f"{sum(row['bits'] for row in rows) / len(rows):.2f}",
        )
    console.print(table)
    more = f"and {len(kinds) - _KINDS} more kinds of tensors; " if len(kinds) > _KINDS else ""
    console.print(f"{more}--verbose lists every tensor")


def _record(expert: Expert, path: str, *, checked: bool) -> dict[str, Any]:
    """Everything that the tables say, as JSON values (docs/experts.md)."""
    manifest = expert.manifest
    return {
        "version": 1,
        "path": path,
        "kind": manifest.kind,
        "base": manifest.base.model,
        "bytes": expert.nbytes,
        "parameters": manifest.parameters,
        "bits_per_parameter": expert.bits_per_parameter,
        "ratio": expert.ratio,
        "checked": checked,
        "groups": [
            {
                "name": group.name,
                "density": group.density,
                "alpha": group.alpha,
                "scale": float(scale),
            }
            for group, scale in zip(manifest.groups, expert.scales, strict=True)
        ],
        "tensors": expert.describe(),
    }


def _heading(path: str | Path, start: str) -> str:
    """The line above a table, with the part that all names in it have."""
    return f"{shown(str(path))}, tensors in {shown(start[:-1])}:" if start else shown(str(path))


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _percents(values: Sequence[float]) -> str:
    low, high = f"{100 * min(values):.1f}", f"{100 * max(values):.1f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def _reach(values: Iterable[float]) -> str:
    found = [f"{value:.4g}" for value in values]
    low, high = min(found, key=float), max(found, key=float)
    return low if low == high else f"{low} to {high}"
