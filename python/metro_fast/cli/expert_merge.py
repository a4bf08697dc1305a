"""`metro-fast expert merge`: several experts merged into one adapter or into a model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._atomic import checked_path
from metro_fast.cli.base_model import load_base, refuse_filled, save_whole
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.experts import TaskVector, add_to_base, compress, merge
from metro_fast.experts.plain.plain import refuse_adapter, save_plain_beside

app = typer.Typer(add_completion=False)

OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder to write the result to; a .safetensors file for adapters of other tools, "
        "which have no adapter_config.json.",
    ),
]
FunctionOption = Annotated[
    Literal["sum", "mean", "max"], typer.Option(help="With TIES: how agreeing values merge.")
]
SignTiesOption = Annotated[
    Literal["peft", "compeft"], typer.Option(help="With TIES: the sign where signs balance.")
]
MajorityOption = Annotated[
    Literal["total", "frequency"],
    typer.Option(help="With TIES: whether the election sums values or signs."),
]
SpaceOption = Annotated[
    Literal["factors", "delta"] | None,
    typer.Option(
        help="For LoRA: merge A and B separately, or the updates B A. "
        "By default updates, but with --method ties and no --rank factors.",
        show_default=False,
    ),
]
RankOption = Annotated[
    int | None, typer.Option(help="For updates of LoRA: rank of the result, else the sum of ranks.")
]
TrimOption = Annotated[
    float | None,
    typer.Option(help="For updates of LoRA: share of each to keep before the merge."),
]


def parse_weights(text: str | None, count: int) -> list[float] | None:
    """Read numbers that are separated by commas, one per expert.

    Args:
        text: The value of the option, or None.
        count: The number of experts.

    Raises:
        MetroFastError: If a part is not a number, or there is not one per expert.

    Example:
        >>> parse_weights("0.5,1", 2)
        [0.5, 1.0]
    """
    if text is None:
        return None
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        raise MetroFastError(
            f"weights are {text!r}, expected numbers separated by commas, such as 0.5,1,0.5"
        ) from None
    if len(weights) != count:
        raise MetroFastError(
            f"{len(weights)} weights are given for {count} experts, expected one per expert"
        )
    return weights


@app.command()
def merge_command(
    ctx: typer.Context,
    experts: Annotated[
        list[str], typer.Argument(help="Folders of compressed experts, or hf:// names.")
    ],
    target: OutOption,
    method: Annotated[
        Literal["mean", "task_arithmetic", "ties"], typer.Option(help="How to merge.")
    ] = "mean",
    weights: Annotated[
        str | None, typer.Option(help="One number per expert, separated by commas: 0.5,1,0.5")
    ] = None,
    merge_function: FunctionOption = "mean",
    sign_ties: SignTiesOption = "peft",
    majority: MajorityOption = "total",
    space: SpaceOption = None,
    rank: RankOption = None,
    trim: TrimOption = None,
    heads_from: Annotated[
        int | None, typer.Option(help="Index (from 0) of the expert whose heads to keep.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Compress the result again, with this density.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Model (folder or Hub name) to add the merge to; writes a whole model."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Merge experts into a PEFT folder, with --density into an expert, with --base into a model.

    With --base, a single expert may be given, to add it permanently to the model.
    """
    checked_path(target)
    if base is not None:
        if density is not None:
            raise MetroFastError("--density writes an expert and --base a model: give only one")
        refuse_filled(target)
    elif density is None:
        refuse_adapter(target)
    if method != "ties":
        refuse_unused(ctx, "merge_function", "sign_ties", "majority", without="--method ties")
    if space == "factors":
        refuse_unused(ctx, "rank", "trim", without="--space delta")
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
    if base is None:
        _write_adapter(vector, target, density, partial(save_resolved, ctx))
    else:
        model = add_to_base(load_base(base), vector)
        save_whole(model, base, target, partial(save_resolved, ctx))
        typer.echo(f"wrote the model {target}: {base} with the merge in its weights")


def _write_adapter(
    vector: TaskVector, target: Path, density: float | None, more: Callable[[Path], object]
) -> None:
    """Write a merge as a plain adapter, or compressed, and report what was written."""
    if density is None:
        save_plain_beside(vector, target, None, more)
        typer.echo(f"wrote the plain adapter {target}")
        return
    expert = compress(vector, density=density, alpha="least_squares")
    expert.save_beside(target, more)
    worst = min(expert.estimated_fidelity, key=lambda row: row.cosine)
    typer.echo(
        f"wrote {target}: {expert.nbytes:,} bytes; the worst module, {worst.module}, keeps a "
        f"cosine of about {worst.cosine:.2f} to the merge"
    )
