"""Turns text into a tokenized corpus on this machine."""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from metro_fast._atomic import checked_path
from metro_fast._extras import require
from metro_fast.data.pieces import tokens_so_far
from metro_fast.data.prepare_counts import last_line, warn_of_unknown
from metro_fast.data.prepare_folder import (
    begin,
    finish,
    finish_complete,
    is_finished,
    locked,
    read_counts,
    work_folder,
)
from metro_fast.data.prepare_plan import PIECE_BYTES, Plan, make_plan
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

_logger = logging.getLogger(__name__)


def prepare(
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
    tasks: int | None = None,
    num_workers: int = 1,
    progress: bool = True,
    report: Callable[[str], object] | None = None,
) -> Path:
    r"""Tokenize text with datatrove into a folder that `TokenCorpus` opens.

    The inputs are cut into pieces of about `piece_bytes`, and every piece becomes one token file.
    The cuts depend only on the inputs, so that the bytes of the result depend on the inputs, the
    tokenizer, the seed and `piece_bytes`, but not on tasks or workers. The folder appears complete
    or not at all. After an interruption, the same call resumes where it stopped. Once the folder
    exists, the call only compares the hashes of the inputs. Control tokens spelled out in a text
    (`</s>`, `<extra_id_0>`, `<|im_end|>`) are read as ordinary letters. For clusters, see
    `prepare_pipeline`.

    A document is what the tokenizer's template puts in front of a text (BOS, `[CLS]`), the text,
    and the EOS. What is left out or changed is counted: in `prepare.json` and in the last line.

    Args:
        inputs: One of these, or a list: files, either `.jsonl` with a text in `text_key` on each
            line or `.txt`, optionally compressed as `.gz` or `.zst`; `.parquet` files with a column
            `text_key`; a `Dataset` or `IterableDataset` of Hugging Face; a folder that
            `save_to_disk` wrote; a folder that holds any of these files and folders, at any depth.
            Blank documents and byte order marks are left out.
        output: Folder to make. Unfinished work is in `.NAME.preparing` next to it.
        tokenizer: A tokenizer of transformers, fast or slow; a folder from which to load one; a
            `tokenizer.json`; a SentencePiece model (`.model`), which keeps its own layout; or a
            name on the Hub. It is saved to `output/tokenizer`. A slow one takes longer:
            ByT5's twice as long.
        text_key: Key or column of the text.
        eos_token: Token that ends every document; the tokenizer's EOS by default.
        shuffle_documents: Whether to shuffle the documents within each piece.
        seed: Seed of the shuffle.
        piece_bytes: Bytes of text per piece: whole lines, row groups of Parquet, or rows of a
            `Dataset`. A compressed text file, and a shard of an `IterableDataset`, is one piece.
        document_per: What a document of a `.txt` is: a `"line"`, the `"file"`, or the lines between
            blank lines (`"blank-line"`).
        encoding: Encoding of `.txt` and `.jsonl` files. A file is one piece if it is one in which
            the end of a line is not one byte, such as UTF-16.
        on_bad_text: Whether a text that its encoding cannot hold is an `"error"`, is left out
            (`"skip"`), or has U+FFFD in the place of its bad bytes (`"replace"`).
        tasks: Number of parts of the work; task t of T does the pieces t, t + T, ... None for one
            task per piece.
        num_workers: Number of processes that share the tasks. A script that uses more than 1 needs
            an `if __name__ == "__main__"`.
        progress: Whether to show a bar if there is a terminal.
        report: Called with the last line, which has the numbers of files, documents, tokens and
            tokens a second, the share of unknown tokens, and all that was left out; by default it
            is logged. From 1 % of unknown tokens on there is a warning as well.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged (the message names the line), or a finished `output` is.
        MetroFastError: If there is nothing to tokenize, a value is outside its domain, `output`
            holds other files, another process is preparing it, or a worker was killed.
        MissingExtraError: If an input needs a package that is not installed.
        OSError: If the output cannot be written.
        TypeError: If an input or the tokenizer is of another type.

    Example:
        >>> from metro_fast.data import read_texts, train_tokenizer
        >>> _ = Path("text.txt").write_text("one document\nand another\n")
        >>> tokenizer = train_tokenizer(read_texts("text.txt"), vocab_size=40, num_sentinels=8)
        >>> prepare("text.txt", "corpus", tokenizer, progress=False)
        PosixPath('corpus')
    """
    for name, value in (("tasks", tasks), ("num_workers", num_workers)):
        if value is not None and check_counter(name, value) == 0:
            raise MetroFastError(f"{name} is 0, expected 1 or more")
    final = checked_path(output)
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
    start, speed = f"{output} is already finished", None
    work = work_folder(final)
    with locked(work):
        if not is_finished(final, plan.record) and not finish_complete(work, final, plan.record):
            begin(work, plan.record, plan.found)
            plan.save_tokenizer(work)
            before, started = tokens_so_far(work, len(plan.pieces)), monotonic()
            _run(plan, work, tasks or len(plan.pieces), num_workers, progress=progress)
            finish(work, final, plan.record)
            made = read_counts(final)["tokens"] - before
            start, speed = f"wrote {output}", made / max(monotonic() - started, 1e-9)
    counts = read_counts(final)
    (report or _logger.info)(last_line(start, counts, speed))
    warn_of_unknown(counts)
    return final


def _run(plan: Plan, work: Path, tasks: int, num_workers: int, *, progress: bool) -> None:
    """Do all tasks, without datatrove's executor: if killed, it leaves processes behind."""
    from metro_fast.data.prepare_progress import PieceProgress

    task = partial(_run_task, plan.steps(work), tasks)
    with PieceProgress(work, len(plan.pieces), show=progress):
        if num_workers == 1 or tasks <= 1:
            for number in range(tasks):
                task(number)
        else:
            from metro_fast.data.processes import run_in_processes

            packed = require("dill", "train").dumps(task)
            run_in_processes(packed, tasks, min(num_workers, tasks))


def _run_task(steps: list[Any], tasks: int, number: int) -> None:
    """Do one task, without datatrove's logs: the exception alone reports an error."""
    from loguru import logger

    logger.disable("datatrove")
    try:
        data: Any = None
        for step in steps:
            data = step(data, number, tasks)
        deque(data or (), maxlen=0)
    finally:
        logger.enable("datatrove")
