"""`metro-fast expert compress`: PEFT folder to compressed expert."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.expert_inspect import print_expert
from metro_fast.errors import MetroFastError
from metro_fast.experts import compress, fidelity

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


@app.command()
def compress_command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="PEFT folder: adapter_config.json and weights.")],
    target: Annotated[Path, typer.Argument(help="Folder to write the compressed expert to.")],
    density: Annotated[float, typer.Option(help="Share of entries kept, in (0, 1].")] = 0.2,
    alpha: Annotated[
        str, typer.Option(help="Scale in standard deviations, or least_squares.")
    ] = "1.0",
    scope: Annotated[
        Literal["role", "global", "tensor"],
        typer.Option(help="What shares one threshold and one scale."),
    ] = "role",
    config: ConfigOption = None,
) -> None:
    """Compress a PEFT expert: exact top-k, signs, one scale a group (ComPEFT, arXiv 2311.13171)."""
    expert = compress(source, density=density, alpha=parse_alpha(alpha), scope=scope)
    expert.save(target)
    save_resolved(ctx, target)
    print_expert(expert, target)
    for module in fidelity(source, expert):
        typer.echo(f"{module.module}: cos(dW, dW') {module.cosine:.3f}")
