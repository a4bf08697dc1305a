"""`metro-fast expert compose`: existing experts composed into one for a new task."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from metro_fast._atomic import checked_path
from metro_fast._folder_lock import owned_folder
from metro_fast._pretrained import load_model, load_tokenizer
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.console import plain_console
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
from metro_fast.experts import Composition, TaskVector, compose_fewshot, compress
from metro_fast.experts.plain.plain import refuse_adapter, save_plain_beside
from metro_fast.scoring.fingerprint import model_fingerprint

app = typer.Typer(add_completion=False)
LOG = "search.jsonl"


@app.command()
def compose_command(
    ctx: typer.Context,
    experts: Annotated[
        list[str],
        typer.Argument(help="Compressed experts or plain PEFT folders, all with the same modules."),
    ],
    model: ModelOption,
    target: Annotated[Path, typer.Option("--out", help="Folder to write the result to.")],
    examples: ExamplesOption = None,
    tasks: TasksOption = None,
    instructions: InstructionsOption = None,
    max_input_length: MaxInputLengthOption = 512,
    strict: StrictOption = False,
    steps: Annotated[int, typer.Option(help="Number of sums to try.", min=1)] = 40,
    bound: Annotated[
        float, typer.Option(help="Weights are between minus this number and this number.", min=0)
    ] = 1.5,
    l1: Annotated[float, typer.Option(help="Penalty on the mean magnitude of the weights.")] = 0.05,
    init: Annotated[float, typer.Option(help="Weight of every expert at the start.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the optimizer's draws.")] = 0,
    optimizer: Annotated[str, typer.Option(help="Name of a nevergrad optimizer.")] = "NGOpt",
    density: Annotated[
        float | None, typer.Option(help="Compress the result again, with this density.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help=f"Continue the search that is recorded in {LOG} in the folder.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(help="Threads to use; the machine's cores by default.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Search for the weighted sum of experts that does best on a few examples (LoraHub)."""
    refuse_without_tasks(ctx, tasks)
    refuse_adapter(target)
    ctx.with_resource(owned_folder(checked_path(target)))
    refuse_adapter(target)  # another process may have written one before this one owned it
    rating = make_rating(
        load_tokenizer(model), examples=examples, tasks=tasks, instructions=instructions,
        max_input_length=max_input_length, strict=strict,
    )  # fmt: skip
    network = load_model(model).eval()
    if not resume:
        (target / LOG).unlink(missing_ok=True)
    found = compose_fewshot(
        network,
        experts,
        rating.score,
        max_steps=steps,
        bounds=(-bound, bound),
        l1=l1,
        init=init,
        seed=seed,
        optimizer=optimizer,
        higher_is_better=rating.higher_is_better,
        resume=target / LOG,
        about={**rating.about, "model": model_fingerprint(network)},
        num_threads=threads,
    )
    print_composition(found, rating.description)
    _write_adapter(found.vector, target, density, partial(save_resolved, ctx))


def _write_adapter(
    vector: TaskVector, target: Path, density: float | None, more: Callable[[Path], object]
) -> None:
    """Write the sum as a plain adapter, or compressed, and report what was written."""
    if density is None:
        save_plain_beside(vector, target, None, more)
        typer.echo(f"wrote the plain adapter {target}")
        return
    expert = compress(vector, density=density, alpha="least_squares")
    expert.save_beside(target, more)
    typer.echo(
        f"wrote {target}: {expert.nbytes:,} bytes; compression changes the score, so rate the "
        "expert as well"
    )


def print_composition(found: Composition, description: str) -> None:
    """Print the weights, the largest first, and the scores of the search.

    Args:
        found: The result of the search.
        description: What the scores measure.
    """
    table = Table("expert", "weight")
    for name, weight in sorted(found.weights.items(), key=lambda pair: -abs(pair[1])):
        table.add_row(name, f"{weight:+.3f}")
    console = plain_console()
    console.print(table)
    first = found.history[0]
    start = "without experts" if not any(first.weights) else "with the initial weights"
    console.print(f"{description}: {found.score:.4f}; {start}: {first.score:.4f}")
    console.print(
        f"the experts took {found.resident_bytes / 1e6:.1f} MB of memory (dense: "
        f"{found.dense_bytes / 1e6:.1f} MB); each sum took {1e3 * found.mixing_seconds:.2f} ms"
    )
