"""`metro-fast expert decompress`: compressed expert to plain PEFT folder."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.experts import decompress

app = typer.Typer(add_completion=False)


@app.command()
def decompress_command(
    source: Annotated[Path, typer.Argument(help="Folder of a compressed expert.")],
    target: Annotated[Path, typer.Argument(help="Folder to write the plain PEFT adapter to.")],
) -> None:
    """Write the plain PEFT folder that every tool loads."""
    decompress(source, target)
    typer.echo(f"wrote {target}")
