"""The progress bar of `prepare`."""

import os
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tqdm import tqdm  # type: ignore[import-untyped]

from metro_fast.data.pieces import MARKS


class PieceProgress:
    """A bar of finished pieces and of the bytes of tokens written so far.

    Args:
        work: The work folder.
        pieces: Number of pieces.
        show: Whether to draw the bar if there is a terminal.
    """

    def __init__(self, work: Path, pieces: int, *, show: bool) -> None:
        self._work = work
        # `None` draws a bar on a terminal only.
        disable = None if show else True
        self._bar = tqdm(total=pieces, unit="piece", desc="tokenize", disable=disable)
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
        finished = len(list((self._work / MARKS).glob("*.json")))
        written = sum(
            _size(Path(folder, name))
            for folder, _, names in os.walk(self._work)
            for name in names
            if name.endswith(".ds")
        )
        self._bar.set_postfix_str(f"{written / 1e6:.0f} MB of tokens", refresh=False)
        self._bar.update(finished - self._bar.n)
        self._bar.refresh()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # it has moved to its place
        return 0
