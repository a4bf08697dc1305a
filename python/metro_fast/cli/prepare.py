"""`metro-fast prepare`: text to a corpus of token ids."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.data import prepare, read_texts, train_tokenizer
from metro_fast.data.prepare_plan import PIECE_BYTES
from metro_fast.errors import MetroFastError

app = typer.Typer(add_completion=False)


@app.command()
def prepare_command(
    ctx: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Files (.jsonl, .txt, either also .gz or .zst; .parquet), datasets that "
            "save_to_disk wrote, or folders of these."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a tokenizer, or a tokenizer.json.")
    ] = None,
    train_vocabulary: Annotated[
        int, typer.Option(help="Train a tokenizer of this many ids on the inputs instead.")
    ] = 0,
    num_sentinels: Annotated[int, typer.Option(help="Sentinels of a trained tokenizer.")] = 100,
    text_key: Annotated[str, typer.Option(help="Key or column of the text.")] = "text",
    eos_token: Annotated[
        str | None, typer.Option(help="Token that ends a document; else the tokenizer's EOS.")
    ] = None,
    shuffle_documents: Annotated[bool, typer.Option(help="Shuffle within each piece.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle.")] = 0,
    piece_bytes: Annotated[
        int,
        typer.Option(help="Bytes of text that become one token file; the corpus depends on it."),
    ] = PIECE_BYTES,
    tasks: Annotated[
        int | None,
        typer.Option(help="Parts the work is cut into; else one a piece. Changes no byte."),
    ] = None,
    num_workers: Annotated[
        int, typer.Option(help="Processes that share the tasks. Changes no byte.")
    ] = 1,
    config: ConfigOption = None,
) -> None:
    """Tokenize text into a corpus; an interrupted run goes on where it stopped.

    For Slurm and Ray see docs/prepare.md.
    """
    if (tokenizer is None) == (train_vocabulary == 0):
        raise MetroFastError(
            "give either --tokenizer FOLDER or --train-vocabulary N, to use one or to train one"
        )
    chosen = tokenizer or train_tokenizer(
        read_texts(list(inputs), text_key),
        vocab_size=train_vocabulary,
        num_sentinels=num_sentinels,
    )
    folder = prepare(
        inputs,
        output,
        chosen,
        text_key=text_key,
        eos_token=eos_token,
        shuffle_documents=shuffle_documents,
        seed=seed,
        piece_bytes=piece_bytes,
        tasks=tasks,
        num_workers=num_workers,
    )
    save_resolved(ctx, folder)
    typer.echo(f"wrote {folder}")
