"""`metro-fast expert push`: upload of a compressed expert to the Hugging Face Hub."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from metro_fast.cli.messages import plain_warnings
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert
from metro_fast.experts.hub.card import as_place
from metro_fast.experts.hub.fetch import at_revision
from metro_fast.experts.hub.push import lasting_name

app = typer.Typer(add_completion=False)


@app.command()
def push_command(
    source: Annotated[str, typer.Argument(help="Folder or file of an expert, or its hf:// name.")],
    repo: Annotated[str, typer.Argument(help="owner/name, or hf://owner/name@branch/folder.")],
    private: Annotated[
        bool,
        typer.Option("--private", help="Make a new repository private; refuse one that is public."),
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to, which is made if new.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="First line of the commit.")] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")
    ] = False,
    card: Annotated[bool, typer.Option(help="Write a model card (README.md) with it.")] = True,
    card_file: Annotated[
        Path | None, typer.Option(help="File to take the card from, instead of making one.")
    ] = None,
    terms: Annotated[
        str | None,
        typer.Option("--license", help="License that the card names: apache-2.0."),
    ] = None,
    replace_card: Annotated[
        bool, typer.Option("--replace-card", help="Replace a README.md that exists.")
    ] = False,
) -> None:
    """Upload an expert with its model card, in one commit: weights, configuration, README.md.

    The token is the one of `hf auth login` or in HF_TOKEN.
    """
    if card_file is not None and (not card or terms is not None):
        option = "--no-card" if not card else "--license"
        raise MetroFastError(f"{option} does not go with --card-file: leave one of them out")
    if not card and (terms is not None or replace_card):
        option = "--replace-card" if terms is None else "--license"
        raise MetroFastError(f"{option} is for the card, but --no-card writes none: leave one out")
    expert = Expert.load(source)
    text: bool | str = card
    if card_file is not None:
        text = _read(card_file)
    elif terms is not None:
        name = at_revision(as_place(repo), revision)
        text = expert.card(lasting_name(name), license=terms)
    with plain_warnings():
        warnings.simplefilter("always", UserWarning)
        commit = expert.push_to_hub(
            repo,
            private=private or None,
            revision=revision,
            commit_message=message,
            create_pr=create_pr,
            card=text,
            replace_card=replace_card,
        )
    typer.echo(f"pushed {expert.nbytes:,} bytes: {commit.pr_url or commit.commit_url}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MetroFastError(f"{path} is not text in UTF-8: {error}") from error
