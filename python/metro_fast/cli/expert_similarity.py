"""`metro-fast expert similarity`: cosines between experts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from metro_fast._atomic import write_atomically
from metro_fast.cli.console import plain_console
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.experts import similarity
from metro_fast.experts.pictures import similarity_page

app = typer.Typer(add_completion=False)
_SHOWN = 12


@app.command()
def similarity_command(
    experts: Annotated[
        list[str], typer.Argument(help="Folders of compressed experts, or hf:// names.")
    ],
    csv: Annotated[Path | None, typer.Option(help="File to write the whole matrix to.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="File to write a picture of the matrix to.")
    ] = None,
    least: Annotated[float, typer.Option(help="Lowest cosine of the pairs that are listed.")] = 0.9,
) -> None:
    """Compare all pairs of experts by the cosine of what they add to the weights."""
    refuse_inputs(csv, "--csv", *experts)
    refuse_inputs(html, "--html", *experts)
    found = similarity(experts)
    if csv is not None:
        found.write_csv(csv)
    if html is not None:
        write_atomically(html, similarity_page(found.names, found.matrix))
    console = plain_console()
    if len(found.names) <= _SHOWN:
        table = Table("expert", *(str(i) for i in range(len(found.names))))
        for i, (name, row) in enumerate(zip(found.names, found.matrix, strict=True)):
            table.add_row(f"{i} {name}", *(f"{cosine:.2f}" for cosine in row))
        console.print(table)
    pairs = found.pairs(least)
    for one, two, cosine in pairs:
        console.print(f"{cosine:.3f}  {one}  {two}")
    count = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
    console.print(f"{count} of {len(found.names)} experts with a cosine of {least:g} or more")
