"""`metro-fast expert tune`: the choice of density and alpha by scores on validation data."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from metro_fast._atomic import checked_path, write_atomically
from metro_fast._folder_lock import owned_folder
from metro_fast._pretrained import load_model, load_tokenizer
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.console import plain_console
from metro_fast.cli.expert_compress import parse_alpha
from metro_fast.cli.rating import (
    ExamplesOption,
    InstructionsOption,
    MaxInputLengthOption,
    ModelOption,
    StrictOption,
    TasksOption,
    make_rating,
    refuse_without_tasks,
)
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.experts import Tuning, tune_compression
from metro_fast.experts.pictures import tuning_page
from metro_fast.scoring.fingerprint import model_fingerprint

app = typer.Typer(add_completion=False)
LOG, PAGE, CSV = "search.jsonl", "tuning.html", "tuning.csv"


def parse_densities(text: str) -> list[float]:
    """Read numbers that are separated by commas.

    Raises:
        MetroFastError: If a part is not a number.

    Example:
        >>> parse_densities("0.05,0.2")
        [0.05, 0.2]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise MetroFastError(
            f"densities are {text!r}, expected numbers separated by commas, such as 0.05,0.2"
        ) from None


@app.command()
def tune_command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="PEFT folder of a LoRA or IA3 adapter.")],
    target: Annotated[
        Path, typer.Argument(help="Folder to write the expert, the table and the page to.")
    ],
    model: ModelOption,
    examples: ExamplesOption = None,
    tasks: TasksOption = None,
    instructions: InstructionsOption = None,
    max_input_length: MaxInputLengthOption = 512,
    strict: StrictOption = False,
    densities: Annotated[
        str, typer.Option(help="Shares of entries to keep, separated by commas.")
    ] = "0.05,0.1,0.2,0.3,0.5",
    alphas: Annotated[
        str, typer.Option(help="Scales to try, numbers or least_squares, separated by commas.")
    ] = "0.5,1,2,3,4,5,6,8,10,least_squares",
    scope: Annotated[
        Literal["role", "global", "tensor"],
        typer.Option(help="Which tensors share one threshold and one scale."),
    ] = "role",
    quantize: Annotated[
        Literal["compeft", "stc", "sign"], typer.Option(help="How kept entries are quantized.")
    ] = "compeft",
    resume: Annotated[
        bool, typer.Option(help=f"Reuse the scores that are recorded in {LOG} in the folder.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(help="Threads to use; the machine's cores by default.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Compress an adapter at every density and alpha, score each result, and keep the best."""
    shares, scales = _grid(ctx, tasks, quantize, densities, alphas)
    ctx.with_resource(owned_folder(checked_path(target)))
    rating = make_rating(
        load_tokenizer(model), examples=examples, tasks=tasks, instructions=instructions,
        max_input_length=max_input_length, strict=strict,
    )  # fmt: skip
    network = load_model(model).eval()
    if not resume:
        (target / LOG).unlink(missing_ok=True)
    found = tune_compression(
        source,
        network,
        rating.score,
        densities=shares,
        alphas=scales,
        quantize=quantize,
        scope=scope,
        higher_is_better=rating.higher_is_better,
        resume=target / LOG,
        about={**rating.about, "model": model_fingerprint(network)},
        num_threads=threads,
    )
    found.expert.save_beside(target, partial(_write_more, ctx, found, source))
    print_tuning(found, rating.description)
    typer.echo(f"wrote {target}; the page is {target / PAGE}")


def _write_more(ctx: typer.Context, found: Tuning, source: Path, folder: Path) -> None:
    """Write the table and the page, which come with the expert."""
    found.write_csv(folder / CSV)
    write_atomically(folder / PAGE, tuning_page(found, f"Density and alpha of {source.name}"))
    save_resolved(ctx, folder)


def _grid(
    ctx: typer.Context, tasks: list[Path] | None, quantize: str, densities: str, alphas: str
) -> tuple[list[float], list[float | Literal["least_squares"]]]:
    """The densities and alphas to try, after a check that each option is read."""
    refuse_without_tasks(ctx, tasks)
    if quantize != "compeft":
        refuse_unused(ctx, "alphas", without="--quantize compeft")
    if quantize == "sign":
        refuse_unused(ctx, "densities", without="--quantize compeft or stc")
    return parse_densities(densities), [parse_alpha(part) for part in alphas.split(",")]


def print_tuning(found: Tuning, description: str) -> None:
    """Print the candidates that no smaller one beats, and the choice.

    Args:
        found: The result of the search.
        description: What the scores measure.
    """
    table = Table(title=description)
    for column in ("density", "alpha", "bytes", "score"):
        table.add_column(column, justify="right")
    if found.original_score is not None:
        table.add_row("", "", f"{found.original_nbytes:,}", f"{found.original_score:.4f}")
    for row in found.pareto:
        alpha = row.alpha if isinstance(row.alpha, str) else f"{row.alpha or 0:g}"
        table.add_row(f"{row.density:g}", alpha, f"{row.nbytes:,}", f"{row.score:.4f}")
    plain_console().print(table)
    best = found.best
    alpha = "" if best.alpha is None else f", alpha {best.alpha}"
    typer.echo(
        f"chosen from {len(found.rows)} candidates: density {best.density:g}{alpha}, "
        f"{best.nbytes:,} bytes, score {best.score:.4f} ({found.rule}); report its score on other "
        "data"
    )
