"""datatrove, as `prepare` uses it: one task a file, quiet, with progress."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.tokens import DocumentTokenizer
from loguru import logger
from tqdm import tqdm  # type: ignore[import-untyped]

from metro_fast.data.documents import read_documents


class ReadFile:
    """First step of a task: the documents of the file whose number is the task's.

    datatrove's own JSON reader passes over damaged lines with a warning; this one refuses them.
    """

    def __init__(self, files: list[Path], text_key: str) -> None:
        self._files = files
        self._text_key = text_key

    def __call__(self, data: Any, rank: int, world_size: int) -> Iterator[Document]:
        """The documents of file `rank`."""
        for number, text in enumerate(read_documents(self._files[rank], self._text_key)):
            yield Document(text=text, id=f"{rank}/{number}")


class PlainTokenizer(DocumentTokenizer):  # type: ignore[misc]
    """datatrove's step, in which `</s>` in a text is four letters and not the end of a document."""

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the step; the EOS of its template is not affected."""
        loaded = super().tokenizer
        loaded.encode_special_tokens = True
        return loaded


class QuietExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """The local executor without its logs: an error is told once, by the exception."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.disable("datatrove")  # also in a worker's process, which imports it anew
        return super()._run_for_rank(rank, local_rank, node_rank)


def tokenize(
    files: list[Path],
    folder: Path,
    logs: Path,
    *,
    tokenizer_file: Path,
    eos_token: str,
    text_key: str,
    shuffle_documents: bool,
    seed: int,
    num_workers: int,
    progress: bool,
) -> None:
    """Tokenize each file to `folder`; tasks that `logs` calls complete are not done again."""
    tokenizer = PlainTokenizer(
        output_folder=str(folder),
        tokenizer_name_or_path=str(tokenizer_file),
        eos_token=eos_token,
        shuffle_documents=shuffle_documents,
        seed=seed,
    )
    executor = QuietExecutor(
        pipeline=[ReadFile(files, text_key), tokenizer],
        tasks=len(files),
        workers=min(num_workers, len(files)),
        logging_dir=str(logs),
    )
    logger.disable("datatrove")
    try:
        with _Progress(folder, logs / "completions", len(files), show=progress):
            executor.run()
    finally:
        logger.enable("datatrove")


class _Progress:
    """A bar of finished files and of the bytes of tokens written so far."""

    def __init__(self, folder: Path, completions: Path, total: int, *, show: bool) -> None:
        self._folder, self._completions = folder, completions
        # `None` draws a bar on a terminal only.
        self._bar = tqdm(total=total, unit="file", desc="tokenize", disable=None if show else True)
        self._done = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._bar.close()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self._update()
        self._update()

    def _update(self) -> None:
        finished = len(list(self._completions.glob("*")))
        written = sum(file.stat().st_size for file in self._folder.glob("*.ds"))
        self._bar.set_postfix_str(f"{written / 1e6:.0f} MB of tokens", refresh=False)
        self._bar.update(finished - self._bar.n)
        self._bar.refresh()
