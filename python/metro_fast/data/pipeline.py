"""`prepare` in parts, for the executors of datatrove: Slurm, Ray, several machines."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metro_fast._atomic import checked_path
from metro_fast.data.prepare_counts import last_line, warn_of_unknown
from metro_fast.data.prepare_folder import (
    begin,
    finish,
    finish_complete,
    is_finished,
    locked,
    read_counts,
    read_record,
    work_folder,
)
from metro_fast.data.prepare_plan import PIECE_BYTES, make_plan
from metro_fast.errors import MetroFastError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparePipeline:
    """The work of a `prepare`, for a datatrove executor.

    Attributes:
        steps: The two steps that an executor takes as `pipeline=`. Filters of datatrove may be put
            between them; they do not appear in the record of the corpus.
        pieces: Number of pieces, which is the largest useful number of `tasks=`.
        work: Folder in which the pieces appear; all machines must see it under this path.
    """

    steps: list[Any]
    pieces: int
    work: Path


def prepare_pipeline(
    inputs: Any,
    output: str | Path,
    tokenizer: Any,
    *,
    text_key: str = "text",
    eos_token: str | None = None,
    shuffle_documents: bool = False,
    seed: int = 0,
    piece_bytes: int = PIECE_BYTES,
    document_per: str = "line",
    encoding: str = "utf-8",
    on_bad_text: str = "error",
) -> PreparePipeline:
    r"""Begin a `prepare` whose tokenization is done by an executor of datatrove.

    This hashes the inputs, cuts them and makes the work folder. Any number of tasks, on any
    machines that see the inputs and the work folder, give the same bytes as `prepare`;
    `finish_prepare` moves them into place. A pipeline that is made again with the same arguments
    resumes where the last one stopped.

    Args:
        inputs: As for `prepare`. On a cluster, name datasets by their saved folders, since a
            dataset in memory would be sent to every task.
        output: Folder that `finish_prepare` makes.
        tokenizer: As for `prepare`.
        text_key: As for `prepare`.
        eos_token: As for `prepare`.
        shuffle_documents: As for `prepare`.
        seed: As for `prepare`.
        piece_bytes: As for `prepare`.
        document_per: As for `prepare`.
        encoding: As for `prepare`.
        on_bad_text: As for `prepare`.

    Returns:
        The steps, and the number of their pieces.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged.
        MetroFastError: If a value is outside its domain, or `output` is already finished or holds
            other files.
        MissingExtraError: If a package is not installed.
        OSError: If the work folder cannot be written.

    Example:
        >>> from metro_fast.data import train_tokenizer
        >>> _ = Path("text.txt").write_text("one two\n" * 9)
        >>> tokenizer = train_tokenizer(["one two"], vocab_size=30, num_sentinels=4)
        >>> pipeline = prepare_pipeline("text.txt", "corpus", tokenizer, piece_bytes=24)
        >>> pipeline.pieces
        3
    """
    plan = make_plan(
        inputs,
        tokenizer,
        text_key=text_key,
        eos_token=eos_token,
        shuffle_documents=shuffle_documents,
        seed=seed,
        piece_bytes=piece_bytes,
        document_per=document_per,
        encoding=encoding,
        on_bad_text=on_bad_text,
    )
    final = checked_path(output)
    work = work_folder(final)
    with locked(work):
        if is_finished(final, plan.record) or finish_complete(work, final, plan.record):
            raise MetroFastError(f"{final} is already finished: there is nothing left to run")
        begin(work, plan.record, plan.found)
        plan.save_tokenizer(work)
    return PreparePipeline(plan.steps(work), len(plan.pieces), work)


def finish_prepare(output: str | Path, *, report: Callable[[str], object] | None = None) -> Path:
    """Check that every piece of a `prepare_pipeline` is done, and move the folder into place.

    Args:
        output: The output of the `prepare_pipeline`. If it already exists, it is only checked.
        report: Called with the last line, as for `prepare`, but without a speed; by default it is
            logged.

    Returns:
        `output`.

    Raises:
        MetroFastError: If pieces are missing (the message names them), there are no tokens, or no
            pipeline was made for this output.
        FormatError: If a file is missing or cut.
        OSError: If the folder cannot be moved.

    Example:
        >>> finish_prepare("nowhere")
        Traceback (most recent call last):
        metro_fast._core.MetroFastError: no pipeline was made for nowhere: call prepare_pipeline
    """
    final = checked_path(output)
    work = work_folder(final)
    if not work.exists():
        if not is_finished(final, None):
            raise MetroFastError(f"no pipeline was made for {final}: call prepare_pipeline")
        start = f"{output} is already finished"
    else:
        start = f"wrote {output}"
        with locked(work):
            finish(work, final, read_record(work))
    counts = read_counts(final)
    (report or _logger.info)(last_line(start, counts))
    warn_of_unknown(counts)
    return final
