"""`metro-fast curves`: the curves of any runs on one page."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.metro import draw_curves

app = typer.Typer(add_completion=False)


@app.command()
def curves_command(
    runs: Annotated[list[Path], typer.Argument(help="Output folders of pretrain or finetune.")],
    output: Annotated[Path, typer.Option(help="The HTML page.")] = Path("curves.html"),
    png: Annotated[
        Path | None, typer.Option(help="The same as a PNG; needs metro_fast[plot].")
    ] = None,
) -> None:
    """Draw losses, accuracies and detection of runs together, on one offline page."""
    refuse_inputs(output, "--output", *runs)
    refuse_inputs(png, "--png", *runs)
    typer.echo(f"wrote {draw_curves(runs, output, png=png)}")
    if png is not None:
        typer.echo(f"wrote {png}")
