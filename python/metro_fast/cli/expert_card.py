"""`metro-fast expert card`: the model card of a compressed expert."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast._atomic import write_atomically
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert, fidelity
from metro_fast.experts.hub.card import CARD
from metro_fast.experts.hub.name import hub_name

app = typer.Typer(add_completion=False)


@app.command()
def card_command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Folder or file of an expert, or its hf:// name.")],
    repo: Annotated[
        str | None,
        typer.Option(help="Repository to load it from: owner/name, or an hf:// name."),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Adapter that it was made of: adds the exact loss of each module."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="With --adapter: the values that compress subtracted.")
    ] = None,
    terms: Annotated[
        str | None,
        typer.Option("--license", help="The Hub's name of a license: apache-2.0."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="Name of the base on the Hub, if the expert has another."),
    ] = None,
    rows: Annotated[int, typer.Option(help="Most groups and modules to list.", min=1)] = 10,
    write: Annotated[
        bool, typer.Option("--write", help=f"Write {CARD} in the folder instead of printing it.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help=f"With --write: replace a {CARD} that exists.")
    ] = False,
) -> None:
    """Print or write a model card; every figure on it is taken from the expert."""
    if adapter is None:
        refuse_unused(ctx, "initial", without="--adapter")
    if not write:
        refuse_unused(ctx, "replace", without="--write")
    target = None
    if write:
        if hub_name(source) is not None:
            raise MetroFastError(
                f"--write needs a folder, but {source} is on the Hub: use `metro-fast expert push`"
            )
        folder = Path(source) if Path(source).is_dir() else Path(source).parent
        target = folder / CARD
        if target.exists() and not replace:
            raise MetroFastError(f"{target} exists already: give --replace to overwrite it")
    expert = Expert.load(source)
    kept = None if adapter is None else fidelity(adapter, expert, initial=initial)
    text = expert.card(repo, license=terms, base_model=base_model, fidelity=kept, rows=rows)
    if target is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(target, text)
        typer.echo(f"wrote {target}")
