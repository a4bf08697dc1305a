"""`metro-fast expert card`: the model card of a compressed expert."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast._atomic import write_atomically
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert, fidelity
from metro_fast.experts.hub.card import CARD
from metro_fast.experts.hub.name import hub_name

app = typer.Typer(add_completion=False)


@app.command()
def card_command(
    source: Annotated[str, typer.Argument(help="Folder or file of an expert, or its hf:// name.")],
    repo: Annotated[
        str | None, typer.Option(help="Where it will lie: owner/name, or an hf:// name.")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="What it was made of: adds what each module lost, exactly."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="With --adapter: the values that compress took off.")
    ] = None,
    terms: Annotated[
        str | None, typer.Option("--license", help="The Hub's name of a license: apache-2.0")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Name of the base on the Hub, if the expert has another.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Most groups and modules to list.", min=1)] = 10,
    write: Annotated[
        bool, typer.Option("--write", help=f"Write it to {CARD} in the folder; else print it.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help=f"With --write: also if there is a {CARD}.")
    ] = False,
) -> None:
    """Print or write a model card; every figure in it is taken from the expert."""
    if initial is not None and adapter is None:
        raise MetroFastError("--initial is of --adapter, which is not given")
    target = None
    if write:
        if hub_name(source) is not None:
            raise MetroFastError(f"--write writes to a folder, and {source} is on the Hub: push it")
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        target = folder / CARD
        if target.exists() and not replace:
            raise MetroFastError(f"{target} is there: --replace writes over it")
    expert = Expert.load(source)
    kept = None if adapter is None else fidelity(adapter, expert, initial=initial)
    text = expert.card(repo, license=terms, base_model=base_model, fidelity=kept, rows=rows)
    if target is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(target, text)
        typer.echo(f"wrote {target}")
