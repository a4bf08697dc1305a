"""`metro-fast prepare`: text to a corpus of token ids."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.data import prepare, train_tokenizer
from metro_fast.data.documents import find_files, read_documents
from metro_fast.errors import MetroFastError

app = typer.Typer(add_completion=False)


@app.command()
def prepare_command(
    ctx: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Text files (.jsonl, .txt, also .gz), or folders of them."),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a tokenizer, or a tokenizer.json.")
    ] = None,
    train_vocabulary: Annotated[
        int, typer.Option(help="Train a tokenizer of this many ids on the inputs instead.")
    ] = 0,
    num_sentinels: Annotated[int, typer.Option(help="Sentinels of a trained tokenizer.")] = 100,
    text_key: Annotated[str, typer.Option(help="Key of the text in JSON lines.")] = "text",
    eos_token: Annotated[
        str | None, typer.Option(help="Token that ends a document; else the tokenizer's EOS.")
    ] = None,
    shuffle_documents: Annotated[bool, typer.Option(help="Shuffle within each file.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle.")] = 0,
    num_workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Tokenize text into a corpus; an interrupted run goes on where it stopped."""
    if (tokenizer is None) == (train_vocabulary == 0):
        raise MetroFastError(
            "give either --tokenizer FOLDER or --train-vocabulary N, to use one or to train one"
        )
    chosen = tokenizer or train_tokenizer(
        (text for file in find_files(list(inputs)) for text in read_documents(file, text_key)),
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
        num_workers=num_workers,
    )
    save_resolved(ctx, folder)
    typer.echo(f"wrote {folder}")
