"""`metro-fast expert inspect`: the tensors of an expert, densities, bits, ratio and checks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from metro_fast._atomic import write_atomically
from metro_fast.experts import Expert
from metro_fast.experts.pictures import expert_page

app = typer.Typer(add_completion=False)


@app.command()
def inspect_command(
    path: Annotated[str, typer.Argument(help="Folder or file of an expert, or its hf:// name.")],
    html: Annotated[
        Path | None,
        typer.Option(help="File to write a page to: density and scale by layer, bytes by part."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Decode the whole expert as a check.")
    ] = True,
) -> None:
    """Show the contents of a compressed expert, and decode the whole of it as a check."""
    expert = Expert.load(path)
    if verify:
        expert.verify()
    print_expert(expert, path)
    if html is not None:
        write_atomically(html, expert_page(expert, str(path)))
        typer.echo(f"wrote {html}")
    if not verify:
        return
    typer.echo("checks: head, every stream, every dense tensor and all padding are whole")


def print_expert(expert: Expert, path: str | Path) -> None:
    """Print the table of tensors and the totals.

    Args:
        expert: The expert.
        path: Its path, for the title.
    """
    table = Table(title=str(path))
    for column in ("tensor", "group", "dtype", "shape", "density", "scale", "bits"):
        left = column in ("tensor", "group")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in expert.describe():
        table.add_row(
            row["tensor"],
            row["group"],
            row["dtype"],
            "x".join(map(str, row["shape"])) or "scalar",
            f"{row['density']:.2%}",
            f"{row['scale']:.3g}",
            f"{row['bits']:.3f}",
        )
    manifest = expert.manifest
    console = Console()
    console.print(table)
    for group, scale in zip(manifest.groups, expert.scales, strict=True):
        console.print(
            f"group {group.name}: density {group.density:g}, alpha {group.alpha:.3f}, "
            f"scale {float(scale):.6g}"
        )
    console.print(
        f"{manifest.parameters:,} parameters in {expert.nbytes:,} bytes: "
        f"{expert.bits_per_parameter:.3f} bits per parameter, "
        f"{expert.ratio:.1f}x smaller than 16-bit weights"
    )
