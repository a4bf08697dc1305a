"""`metro-fast expert compress`: adapters to compressed experts."""

from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Literal

import typer
from rich.progress import track

from metro_fast._shown import shown
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.console import plain_console
from metro_fast.cli.expert_compress_one import Made, compress_one
from metro_fast.cli.expert_compress_options import (
    Alpha,
    Base,
    CompressOptions,
    Dense,
    Density,
    Initial,
    KindOption,
    ProfileOption,
    QuantizeOption,
    Replace,
    Rows,
    ScopeOption,
    Source,
    Target,
    Threads,
    Upstream,
)
from metro_fast.cli.expert_compress_sources import find_sources, target_folders
from metro_fast.cli.expert_report import as_json, print_made, print_overview
from metro_fast.cli.messages import error_text, say_warning
from metro_fast.cli.verbosity import Json, Quiet, Verbose, refuse_several
from metro_fast.errors import MetroFastError, MissingExtraError

app = typer.Typer(add_completion=False)


def parse_alpha(text: str) -> float | Literal["least_squares"]:
    """Read a positive number, or `least_squares`.

    Args:
        text: The text that the user wrote.

    Returns:
        The scale factor, or the name of the rule that finds it.

    Raises:
        MetroFastError: If it is neither.

    Example:
        >>> parse_alpha("1.5")
        1.5
    """
    if text == "least_squares":
        return "least_squares"
    try:
        return float(text)
    except ValueError:
        raise MetroFastError(f"alpha is {text!r}, expected a number or least_squares") from None


@app.command()
def compress_command(
    ctx: typer.Context,
    source: Source,
    target: Target,
    density: Density = None,
    alpha: Alpha = None,
    scope: ScopeOption = "role",
    quantize: QuantizeOption = "compeft",
    kind: KindOption = None,
    initial: Initial = None,
    base: Base = None,
    dense: Dense = None,
    upstream: Upstream = False,
    profile: ProfileOption = "default",
    threads: Threads = None,
    rows: Rows = 10,
    replace: Replace = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
    config: ConfigOption = None,
) -> None:
    """Compress adapters: exact top-k, signs, a scale per group (ComPEFT, arXiv 2311.13171).

    One adapter is written to the folder itself, several (A B C OUT) to folders in it with their
    names. A source that is refused does not stop the others; the exit status is then 1.
    """
    del config
    refuse_several(verbose=verbose, quiet=quiet, json=json)
    sources = find_sources(source, dense)
    folders = target_folders(sources, target)
    options = CompressOptions(
        source=sources[0],
        target=folders[0],
        density=density,
        alpha=None if alpha is None else parse_alpha(alpha),
        scope=scope,
        quantize=quantize,
        kind=kind,
        initial=initial,
        base=base,
        dense=tuple(dense or ()),
        upstream=upstream,
        profile=profile,
        threads=threads,
        replace=replace,
        several=len(sources) > 1,
    )
    made, refused = _compress_all(ctx, options, sources, folders)
    _say_warnings(made, several=len(sources) > 1)
    if json:
        typer.echo(as_json(made, refused))
    elif not quiet:
        for each in made if verbose or len(sources) == 1 else ():
            print_made(each, rows, verbose=verbose)
            _say_profile(each, profile)
        if len(sources) > 1:
            print_overview(made, refused)
    for path, reason in refused:
        typer.echo(f"refused: {shown(str(path))}: {reason}", err=True)
    if refused:
        raise typer.Exit(1)


def _compress_all(
    ctx: typer.Context, options: CompressOptions, sources: list[Path], folders: list[Path]
) -> tuple[list[Made], list[tuple[Path, str]]]:
    """Compress every source; of several, those that are refused are returned with the reasons."""
    made: list[Made] = []
    refused: list[tuple[Path, str]] = []
    console = plain_console(stderr=True)
    hidden = len(sources) == 1 or not console.is_terminal
    places = list(zip(sources, folders, strict=True))
    for path, folder in track(places, "compress", console=console, transient=True, disable=hidden):
        ctx.params |= {"source": path, "target": folder}
        one = changed(options, source=path, target=folder, more=partial(save_resolved, ctx))
        try:
            made.append(compress_one(one))
        except (MetroFastError, MissingExtraError, TypeError, OSError) as error:
            if len(sources) == 1:
                raise
            refused.append((path, error_text(error)))
    return made, refused


def _say_warnings(made: list[Made], *, several: bool) -> None:
    for each in made:
        for text in each.warnings:
            say_warning(f"{shown(each.target.name)}: {text}" if several else text)


def _say_profile(made: Made, profile: str) -> None:
    if profile == "size" and made.expert is not None:
        steps = made.expert.steps
        typer.echo(f"size profile: streams of 64 x S trits, S = {steps}, made the smallest")
