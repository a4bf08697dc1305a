"""`metro-fast expert merge`: several experts to one adapter."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast.cli.base_model import load_base, refuse_filled, save_whole
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.errors import MetroFastError
from metro_fast.experts import add_to_base, compress, merge
from metro_fast.experts.plain.plain import save_plain

app = typer.Typer(add_completion=False)


def parse_weights(text: str | None, count: int) -> list[float] | None:
    """Numbers with commas between them, one an expert.

    Args:
        text: What the user wrote, or None.
        count: How many experts there are.

    Raises:
        MetroFastError: If they are no numbers, or not as many.

    Example:
        >>> parse_weights("0.5,1", 2)
        [0.5, 1.0]
    """
    if text is None:
        return None
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        raise MetroFastError(f"weights are {text!r}, expected numbers: 0.5,1,0.5") from None
    if len(weights) != count:
        raise MetroFastError(f"{len(weights)} weights for {count} experts")
    return weights


@app.command()
def merge_command(
    ctx: typer.Context,
    experts: Annotated[
        list[str], typer.Argument(help="Folders of compressed experts, or hf:// names.")
    ],
    target: Annotated[Path, typer.Option("--out", help="Folder to write the result to.")],
    method: Annotated[
        Literal["mean", "task_arithmetic", "ties"], typer.Option(help="How to merge.")
    ] = "mean",
    weights: Annotated[str | None, typer.Option(help="One number an expert: 0.5,1,0.5")] = None,
    merge_function: Annotated[
        Literal["sum", "mean", "max"], typer.Option(help="Of TIES: what agreeing values give.")
    ] = "mean",
    sign_ties: Annotated[
        Literal["peft", "compeft"], typer.Option(help="Of TIES: who wins where signs balance.")
    ] = "peft",
    majority: Annotated[
        Literal["total", "frequency"], typer.Option(help="Of TIES: what the election sums.")
    ] = "total",
    space: Annotated[
        Literal["factors", "delta"],
        typer.Option(help="Of LoRA: merge A and B apart, or the updates B A."),
    ] = "factors",
    rank: Annotated[
        int | None, typer.Option(help="With --space delta: rank of the result.")
    ] = None,
    trim: Annotated[
        float | None,
        typer.Option(help="With --space delta: share of each update to keep before merging."),
    ] = None,
    heads_from: Annotated[
        int | None, typer.Option(help="Number of the expert (from 0) whose heads to keep.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Compress the result again, with this density.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Model (folder or Hub name) to add the merge to: write a whole model."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Merge experts into a plain PEFT folder, with --density a compressed one, with --base a model.

    One expert may be given: with --base it is added to the model for good.
    """
    if base is not None:
        if density is not None:
            raise MetroFastError("--density makes an expert and --base a model: give one of them")
        refuse_filled(target)
    vector = merge(
        experts,
        method=method,
        weights=parse_weights(weights, len(experts)),
        merge_function=merge_function,
        sign_ties=sign_ties,
        majority=majority,
        space=space,
        rank=rank,
        trim=trim,
        heads_from=heads_from,
    )
    if base is not None:
        model = add_to_base(load_base(base), vector)
        save_whole(model, base, target, partial(save_resolved, ctx))
        typer.echo(f"wrote the model {target}: {base} with the merge in its weights")
        return
    if density is None:
        save_plain(vector, target)
        typer.echo(f"wrote the plain adapter {target}")
    else:
        expert = compress(vector, density=density, alpha="least_squares")
        expert.save(target)
        worst = min(expert.estimated_fidelity, key=lambda row: row.cosine)
        typer.echo(
            f"wrote {target}: {expert.nbytes:,} bytes; of the merge the worst module keeps about "
            f"cosine {worst.cosine:.2f} ({worst.module})"
        )
    save_resolved(ctx, target)
