"""`metro-fast expert decompress`: compressed expert to plain PEFT folder or safetensors file."""

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
        Path | None, typer.Option(help="File or folder of the values that compress took off.")
    ] = None,
) -> None:
    """Write what every tool loads: a plain PEFT folder, or one safetensors file."""
    decompress(source, target, initial=initial)
    typer.echo(f"wrote {target}")
