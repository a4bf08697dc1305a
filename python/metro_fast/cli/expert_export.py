"""`metro-fast expert export`: plain folders for servers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast.experts import export
from metro_fast.experts.hub.name import expert_name

app = typer.Typer(add_completion=False)


@app.command()
def export_command(
    experts: Annotated[
        list[str], typer.Argument(help="Folders of compressed experts, or hf:// names.")
    ],
    target: Annotated[Path, typer.Option("--out", help="Folder to write the plain folders to.")],
    dtype: Annotated[
        Literal["own", "float32", "float16", "bfloat16"],
        typer.Option(help="Dtype of all weights; own keeps the dtype of each tensor."),
    ] = "own",
) -> None:
    """Write experts as plain PEFT folders of the same names, which servers of LoRA read alike."""
    named: dict[str, str] = {}
    for path in experts:
        name = expert_name(path)
        if name in named:
            raise typer.BadParameter(
                f"{named[name]} and {path} have the same name: rename a folder, or export twice"
            )
        named[name] = path
    for folder in export(named, target, dtype=None if dtype == "own" else dtype):
        typer.echo(f"wrote {folder}")
