"""`metro-fast expert decompress`: an expert to a plain PEFT folder or a safetensors file."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.experts import decompress

app = typer.Typer(add_completion=False)


@app.command()
def decompress_command(
    source: Annotated[
        str, typer.Argument(help="Folder of a compressed expert, or its hf:// name.")
    ],
    target: Annotated[
        Path,
        typer.Argument(help="Folder to write the plain PEFT adapter to, or a .safetensors file."),
    ],
    initial: Annotated[
        Path | None, typer.Option(help="File or folder of the values that compress subtracted.")
    ] = None,
) -> None:
    """Write an expert in a form that every tool loads: a PEFT folder, or one safetensors file."""
    decompress(source, target, initial=initial)
    typer.echo(f"wrote {target}")
