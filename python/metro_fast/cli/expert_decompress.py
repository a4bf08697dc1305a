"""`metro-fast expert decompress`: an expert to the form it came from: a PEFT folder, or a file."""

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
        typer.Argument(
            help="Folder to write the plain PEFT adapter to, or a file: .safetensors, .npy, .npz, "
            ".bin, .pt."
        ),
    ],
    initial: Annotated[
        Path | None, typer.Option(help="File or folder of the values that compress subtracted.")
    ] = None,
) -> None:
    """Write an expert in the form that it came from, which every tool loads: a folder or a file."""
    decompress(source, target, initial=initial)
    typer.echo(f"wrote {target}")
