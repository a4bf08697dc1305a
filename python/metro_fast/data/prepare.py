"""Turns text into a tokenized corpus on this machine."""

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.data.prepare_folder import begin, finish, is_finished, locked, work_folder
from metro_fast.data.prepare_plan import PIECE_BYTES, Plan, make_plan
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter


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
    tasks: int | None = None,
    num_workers: int = 1,
    progress: bool = True,
) -> Path:
    r"""Tokenize text with datatrove into a folder that `TokenCorpus` opens.

    The inputs are cut into pieces of about `piece_bytes`, and every piece becomes one token file.
    The cuts depend only on the inputs, so that the bytes of the result depend on the inputs, the
    tokenizer, the seed and `piece_bytes`, but not on tasks or workers. The folder appears complete
    or not at all. After an interruption, the same call resumes where it stopped. Once the folder
    exists, the call only compares the hashes of the inputs. Special tokens spelled out in a text
    (`</s>`, `<extra_id_0>`) are read as ordinary letters. For clusters, see `prepare_pipeline`.

    Args:
        inputs: One of these, or a list: files in UTF-8, either `.jsonl` with a text in `text_key`
            on each line or `.txt` with a document on each line, optionally compressed as `.gz` or
            `.zst`; `.parquet` files with a column `text_key`; a `Dataset` or `IterableDataset` of
            Hugging Face; a folder that `save_to_disk` wrote; a folder of any of these files and
            folders. Blank documents are skipped.
        output: Folder to make. Unfinished work is in `.NAME.preparing` next to it.
        tokenizer: A `PreTrainedTokenizerFast`, or a folder or `tokenizer.json` from which to load
            one. It is saved to `output/tokenizer`.
        text_key: Key or column of the text.
        eos_token: Token that ends every document; the tokenizer's EOS by default.
        shuffle_documents: Whether to shuffle the documents within each piece.
        seed: Seed of the shuffle.
        piece_bytes: Bytes of text per piece: whole lines, row groups of Parquet, or rows of a
            `Dataset`. A compressed text file, and a shard of an `IterableDataset`, is one piece.
        tasks: Number of parts of the work; task t of T does the pieces t, t + T, ... None for one
            task per piece.
        num_workers: Number of processes that share the tasks. A script that uses more than 1 needs
            an `if __name__ == "__main__"`.
        progress: Whether to show a bar if there is a terminal.

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
    plan = make_plan(
        inputs,
        tokenizer,
        text_key=text_key,
        eos_token=eos_token,
        shuffle_documents=shuffle_documents,
        seed=seed,
        piece_bytes=piece_bytes,
    )
    final = Path(output)
    work = work_folder(final)
    with locked(work):
        if is_finished(final, plan.record):
            return final
        begin(work, plan.record)
        plan.save_tokenizer(work)
        _run(plan, work, tasks or len(plan.pieces), num_workers, progress=progress)
        finish(work, final, plan.record)
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
