"""`metro-fast prepare`: tokenize text into a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.unused import refuse_unused
from metro_fast.data import prepare, read_texts, train_tokenizer
from metro_fast.data.prepare_plan import PIECE_BYTES
from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

app = typer.Typer(add_completion=False)

InputsArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Files (.jsonl, .txt, either also .gz or .zst; .parquet), datasets that "
        "save_to_disk wrote, or folders that hold these at any depth."
    ),
]
DocumentPerOption = Annotated[
    Literal["line", "file", "blank-line"], typer.Option(help="What a document of a .txt is.")
]
EncodingOption = Annotated[str, typer.Option(help="Encoding of .txt and .jsonl files.")]
OnBadTextOption = Annotated[
    Literal["error", "skip", "replace"],
    typer.Option(help="What becomes of a text with bytes that its encoding does not have."),
]
PieceBytesOption = Annotated[
    int, typer.Option(help="Bytes of text that become one token file; the corpus depends on it.")
]
TasksOption = Annotated[
    int | None,
    typer.Option(help="Parts the work is cut into; by default one per piece. Changes no byte."),
]


@app.command()
def prepare_command(
    ctx: typer.Context,
    inputs: InputsArgument,
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Folder of a tokenizer, a tokenizer.json, a SentencePiece model (.model), or a "
            "name on the Hub."
        ),
    ] = None,
    train_vocabulary: Annotated[
        int, typer.Option(help="Train a tokenizer of this many ids on the inputs instead.")
    ] = 0,
    num_sentinels: Annotated[int, typer.Option(help="Sentinels of a trained tokenizer.")] = 100,
    text_key: Annotated[str, typer.Option(help="Key or column of the text.")] = "text",
    eos_token: Annotated[
        str | None,
        typer.Option(help="Token that ends a document; by default the tokenizer's EOS."),
    ] = None,
    shuffle_documents: Annotated[bool, typer.Option(help="Shuffle within each piece.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle.")] = 0,
    document_per: DocumentPerOption = "line",
    encoding: EncodingOption = "utf-8",
    on_bad_text: OnBadTextOption = "error",
    piece_bytes: PieceBytesOption = PIECE_BYTES,
    tasks: TasksOption = None,
    num_workers: Annotated[
        int, typer.Option(help="Processes that share the tasks. Changes no byte.")
    ] = 1,
    config: ConfigOption = None,
) -> None:
    """Tokenize text into a corpus; an interrupted run continues where it stopped.

    For Slurm and Ray see docs/prepare.md.
    """
    if not train_vocabulary:
        refuse_unused(ctx, "num_sentinels", without="--train-vocabulary")
    if not shuffle_documents:
        refuse_unused(ctx, "seed", without="--shuffle-documents")
    reading: dict[str, Any] = {
        "document_per": document_per,
        "encoding": encoding,
        "on_bad_text": on_bad_text,
    }
    lines: list[str] = []
    folder = prepare(
        inputs,
        output,
        _tokenizer(tokenizer, inputs, text_key, train_vocabulary, num_sentinels, reading),
        text_key=text_key,
        eos_token=eos_token,
        shuffle_documents=shuffle_documents,
        seed=seed,
        piece_bytes=piece_bytes,
        **reading,
        tasks=tasks,
        num_workers=num_workers,
        report=lines.append,
    )
    save_resolved(ctx, folder)
    typer.echo("\n".join(lines))


def _tokenizer(
    given: str | None,
    inputs: list[Path],
    text_key: str,
    vocab_size: int,
    num_sentinels: int,
    reading: dict[str, Any],
) -> "str | PreTrainedTokenizerFast":
    if (given is None) == (vocab_size == 0):
        raise MetroFastError(
            "give either --tokenizer NAME, to use a tokenizer, or --train-vocabulary N, to train "
            "one"
        )
    if given is not None:
        return given
    texts = read_texts(list(inputs), text_key, **reading)
    return train_tokenizer(texts, vocab_size=vocab_size, num_sentinels=num_sentinels)
