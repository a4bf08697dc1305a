"""`metro-fast expert compress`: an adapter to a compressed expert."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.expert_fidelity import print_fidelity
from metro_fast.cli.expert_inspect import print_expert
from metro_fast.errors import MetroFastError
from metro_fast.experts import compress, compress_checkpoint, fidelity
from metro_fast.experts.plain.plain import save_plain

app = typer.Typer(add_completion=False)


def parse_alpha(text: str) -> float | Literal["least_squares"]:
    """A positive number, or `least_squares`.

    Args:
        text: What the user wrote.

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


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as lines for people, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@app.command()
def compress_command(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="PEFT folder, or a state dict: .safetensors, .bin, .pt, .pth, .npy, or the folder "
            "of a model."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write the compressed expert to.")],
    density: Annotated[
        float | None,
        typer.Option(help="Share of entries kept, in (0, 1]: 0.2 by default, 1 for sign."),
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(help="Scale in standard deviations, or least_squares: 1 by default."),
    ] = None,
    scope: Annotated[
        Literal["role", "global", "tensor"],
        typer.Option(help="What shares one threshold and one scale."),
    ] = "role",
    quantize: Annotated[
        Literal["compeft", "stc", "sign", "prune"],
        typer.Option(
            help="What kept entries become: signs times alpha, signs times their mean magnitude, "
            "every sign, or (prune) themselves, as a plain PEFT folder."
        ),
    ] = "compeft",
    kind: Annotated[
        Literal["lora", "ia3", "prompt", "full", "other"] | None,
        typer.Option(help="What the source is, where its names do not tell."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="File or folder of values to take off first: the base.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Pretrained model that a fully finetuned one is compared with, tensor by tensor: "
            "neither needs to fit into memory. Both are .safetensors files or folders of shards."
        ),
    ] = None,
    dense: Annotated[
        list[str] | None,
        typer.Option(help="Name or pattern of tensors to keep whole; may be repeated."),
    ] = None,
    upstream: Annotated[
        bool, typer.Option(help="Keep what the published code keeps: k + 1 entries and all ties.")
    ] = False,
    profile: Annotated[
        Literal["default", "size"],
        typer.Option(help="size: the stream length that makes the smallest file."),
    ] = "default",
    threads: Annotated[
        int | None, typer.Option(help="Threads to use: the machine's cores by default.")
    ] = None,
    rows: Annotated[
        int, typer.Option(help="Most modules to list; of more, those that lost most.", min=0)
    ] = 20,
    config: ConfigOption = None,
) -> None:
    """Compress an adapter: exact top-k, signs, one scale a group (ComPEFT, arXiv 2311.13171)."""
    del config
    scale = None if alpha is None else parse_alpha(alpha)
    if base is not None:
        refused = {
            "--initial": initial is not None,
            "--upstream": upstream,
            "--profile size": profile == "size",
            f"--kind {kind}": kind not in (None, "full"),
            "--quantize prune": quantize == "prune",
        }
        for option, given in refused.items():
            if given:
                raise MetroFastError(f"{option} does not go with --base: leave one of them out")
        console = Console(stderr=True)
        with (
            _plain_warnings(),
            Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            task = bar.add_task("compress", total=None)
            expert = compress_checkpoint(
                source, base, target, density=density, alpha=scale, scope=scope,
                quantize=quantize, dense=dense or (), num_threads=threads,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        save_resolved(ctx, target)
        print_expert(expert, target)
        print_fidelity(expert.estimated_fidelity, rows)
        return
    if quantize == "prune":
        if scale is not None or profile != "default":
            raise MetroFastError(
                "--alpha and --profile are of trits, and --quantize prune has none"
            )
        with _plain_warnings():
            vector = compress(
                source, quantize=quantize, density=density, scope=scope, kind=kind,
                initial=initial, dense=dense or (), upstream=upstream, num_threads=threads,
            )  # fmt: skip
        save_plain(vector, target, initial=initial)
        save_resolved(ctx, target)
        kept = sum(int((r.values != 0).sum()) for r in vector.residuals.values())
        total = sum(r.values.size for r in vector.residuals.values())
        typer.echo(f"{target}: plain PEFT folder, {kept:,} of {total:,} entries kept")
        return
    with _plain_warnings():
        expert = compress(
            source, quantize=quantize, density=density, alpha=scale, scope=scope, kind=kind,
            initial=initial, dense=dense or (), upstream=upstream, profile=profile,
            num_threads=threads,
        )  # fmt: skip
    expert.save(target)
    save_resolved(ctx, target)
    print_expert(expert, target)
    print_fidelity(fidelity(source, expert, initial=initial), rows)
    if profile == "size":
        typer.echo(f"size profile: streams of 64 x S trits, S = {expert.steps}, made the smallest")
