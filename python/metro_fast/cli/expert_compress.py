"""`metro-fast expert compress`: an adapter to a compressed expert."""

from typing import Literal

import typer
from rich.console import Console
from rich.progress import Progress

from metro_fast.cli.config import ConfigOption, save_resolved
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
    Rows,
    ScopeOption,
    Source,
    Target,
    Threads,
    Upstream,
)
from metro_fast.cli.expert_fidelity import print_fidelity
from metro_fast.cli.expert_inspect import print_expert
from metro_fast.cli.messages import plain_warnings
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert, ModuleFidelity, compress, compress_checkpoint, fidelity
from metro_fast.experts.compression.compress import read_vector
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.plain.plain import save_plain

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
    rows: Rows = 20,
    config: ConfigOption = None,
) -> None:
    """Compress an adapter: exact top-k, signs, a scale per group (ComPEFT, arXiv 2311.13171)."""
    del config
    options = CompressOptions(
        source=source,
        target=target,
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
        rows=rows,
    )
    if options.quantize == "prune":
        summary = _prune(options)
        save_resolved(ctx, target)
        typer.echo(summary)
        return
    expert, modules = _compress(options) if base is None else _stream(options)
    save_resolved(ctx, target)
    print_expert(expert, target)
    print_fidelity(modules, rows, fixed=expert.manifest.alpha_rule == "fixed")
    if profile == "size":
        typer.echo(f"size profile: streams of 64 x S trits, S = {expert.steps}, made the smallest")


def _compress(options: CompressOptions) -> tuple[Expert, list[ModuleFidelity]]:
    """Save a compressed adapter; the source is read once, for it and for its exact fidelity."""
    assert options.quantize != "prune"
    with plain_warnings():
        initial = read_initial(options.initial)
        vector = read_vector(options.source, options.kind, initial, options.dense)
        expert = compress(
            vector,
            quantize=options.quantize,
            density=options.density,
            alpha=options.alpha,
            scope=options.scope,
            upstream=options.upstream,
            profile=options.profile,
            num_threads=options.threads,
        )
    modules = fidelity(vector, expert, initial=initial)  # refuses factors without a product
    expert.save(options.target)
    return expert, modules


def _prune(options: CompressOptions) -> str:
    """Save a pruned adapter as a plain PEFT folder; the result is a summary."""
    with plain_warnings():
        initial = read_initial(options.initial)
        vector = compress(
            read_vector(options.source, options.kind, initial, options.dense),
            quantize="prune",
            density=options.density,
            scope=options.scope,
            upstream=options.upstream,
            num_threads=options.threads,
        )
    save_plain(vector, options.target, initial=initial)
    residuals = vector.residuals.values()
    kept = sum(int((residual.values != 0).sum()) for residual in residuals)
    total = sum(residual.values.size for residual in residuals)
    return f"{options.target}: plain PEFT folder, {kept:,} of {total:,} entries kept"


def _stream(options: CompressOptions) -> tuple[Expert, tuple[ModuleFidelity, ...]]:
    """Save what finetuning changed in a checkpoint, tensor by tensor; fidelity is estimated."""
    assert options.base is not None
    console = Console(stderr=True)
    with (
        plain_warnings(),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("compress", total=None)
        expert = compress_checkpoint(
            options.source,
            options.base,
            options.target,
            density=options.density,
            alpha=options.alpha,
            scope=options.scope,
            quantize=options.quantize,
            dense=options.dense,
            num_threads=options.threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return expert, expert.estimated_fidelity
