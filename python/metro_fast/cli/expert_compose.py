"""`metro-fast expert compose`: an expert for a new task, out of experts that are there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from metro_fast._pretrained import load_seq2seq, load_tokenizer
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.rating import (
    ExamplesOption,
    InstructionsOption,
    MaxInputLengthOption,
    ModelOption,
    TasksOption,
    make_rating,
)
from metro_fast.experts import Composition, compose_fewshot, compress
from metro_fast.experts.plain.plain import refuse_adapter, save_plain
from metro_fast.robustness.fingerprint import model_fingerprint

app = typer.Typer(add_completion=False)
LOG = "search.jsonl"


@app.command()
def compose_command(
    ctx: typer.Context,
    experts: Annotated[
        list[str], typer.Argument(help="Compressed experts or plain PEFT folders, of one layout.")
    ],
    model: ModelOption,
    target: Annotated[Path, typer.Option("--out", help="Folder to write the result to.")],
    examples: ExamplesOption = None,
    tasks: TasksOption = None,
    instructions: InstructionsOption = None,
    max_input_length: MaxInputLengthOption = 512,
    steps: Annotated[int, typer.Option(help="Sums to try.", min=1)] = 40,
    bound: Annotated[
        float, typer.Option(help="Weights lie between minus this and this.", min=0)
    ] = 1.5,
    l1: Annotated[float, typer.Option(help="Weight of the mean magnitude of the weights.")] = 0.05,
    init: Annotated[float, typer.Option(help="Weight of every expert at the start.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the optimizer's draws.")] = 0,
    optimizer: Annotated[str, typer.Option(help="An optimizer of nevergrad.")] = "NGOpt",
    density: Annotated[
        float | None, typer.Option(help="Compress the result again, with this density.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help=f"Go on with the search that {LOG} in the folder holds.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(help="Threads to use: the machine's cores by default.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Search the weights of a sum of experts that does best on a few examples (LoraHub)."""
    refuse_adapter(target)
    tokenizer = load_tokenizer(model)
    rating = make_rating(
        tokenizer, examples=examples, tasks=tasks, instructions=instructions,
        max_input_length=max_input_length,
    )  # fmt: skip
    network = load_seq2seq(model).eval()
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
    print_composition(found, rating.what)
    if density is None:
        save_plain(found.vector, target)
        typer.echo(f"wrote the plain adapter {target}")
    else:
        expert = compress(found.vector, density=density, alpha="least_squares")
        expert.save(target)
        typer.echo(f"wrote {target}: {expert.nbytes:,} bytes; rate it too, compression costs some")
    save_resolved(ctx, target)


def print_composition(found: Composition, what: str) -> None:
    """Print the weights, the largest first, and the scores of the search.

    Args:
        found: What the search found.
        what: What a score is.
    """
    table = Table("expert", "weight")
    for name, weight in sorted(found.weights.items(), key=lambda pair: -abs(pair[1])):
        table.add_row(name, f"{weight:+.3f}")
    console = Console()
    console.print(table)
    first = found.history[0]
    start = "no expert" if not any(first.weights) else "the weights it started from"
    console.print(f"{what}: {found.score:.4f}, with {start} {first.score:.4f}")
    console.print(
        f"experts held in {found.resident_bytes / 1e6:.1f} MB (dense: "
        f"{found.dense_bytes / 1e6:.1f}); a sum into the model took "
        f"{1e3 * found.mixing_seconds:.2f} ms"
    )
