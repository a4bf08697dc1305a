"""Callbacks that announce the epoch, write the history to a file, and save on Ctrl-C."""

import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from metro_fast._atomic import write_atomically
from metro_fast._file_errors import named
from metro_fast._json import parse_json
from metro_fast.errors import FormatError

logger = logging.getLogger(__name__)


class EpochCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Announces each epoch to everything that makes noise or order, also after a resume.

    The stock Trainer does not give the epoch to collators, and persistent workers keep the epoch
    they were forked with unless it is in shared memory (`metro_fast.data.EpochCell`).

    Args:
        receivers: Returns the objects whose `set_epoch` is called.
    """

    def __init__(self, receivers: Callable[[], list[Any]]) -> None:
        self._receivers = receivers

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Announce the epoch; `state.epoch` is its start, or the place inside it on resume."""
        for receiver in self._receivers():
            receiver.set_epoch(int(state.epoch or 0))


class HistoryCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Writes every log line to a JSONL file, without the lines of a run that was rolled back.

    Args:
        path: The file. It is written again from the trainer's state when training begins, so that
            a resumed run has each step once. The evaluation after the last step of a run that is
            now made longer is not in that state, and is kept from the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the lines that the resumed checkpoint holds."""
        self._begun = True
        if state.is_world_process_zero:
            self._write(state, "eval_loss")

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Append the newest line, unless it repeats one of a finished run."""
        if not state.is_world_process_zero:
            return
        line = state.log_history[-1]
        if self._begun:
            with named(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
            return
        # A run logs without having begun only if it was finished before.
        self._write(state, "eval_loss", "train_loss")

    def _write(self, state: TrainerState, *kinds: str) -> None:
        """Write the lines of a state, and those of the file that it cannot have.

        Args:
            state: Its lines get the order of their figures from the file: a checkpoint has them in
                the order of their names.
            *kinds: Figures of the lines that are written after the last checkpoint.
        """
        lines, finished = self._lines(), "train_loss" in kinds
        state.log_history = [
            next((e for e in lines if e == known or (finished and _is_same(e, known))), known)
            for known in state.log_history
        ]
        kept = [
            line
            for line in lines
            if any(kind in line for kind in kinds)
            and line["step"] <= state.global_step
            and not any(_is_same(line, known) for known in state.log_history)
        ]
        history = sorted([*state.log_history, *kept], key=lambda line: line["step"])
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in history))

    def _lines(self) -> list[dict[str, Any]]:
        """The lines that the file holds; a run that died may have left half a last line."""
        if not self._path.exists():
            return []
        whole = self._path.read_bytes().split(b"\n")[:-1]
        found = [parse_json(each, f"{self._path}:{n}") for n, each in enumerate(whole, start=1)]
        for number, line in enumerate(found, start=1):
            if not isinstance(line, dict) or "step" not in line:
                raise FormatError(
                    f"{self._path}:{number} is not a log line: remove it, and resume the run"
                )
        return found


def _is_same(line: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether both are the evaluation, or both the end, of a run after the same step."""
    return line["step"] == before["step"] and any(
        name in line and name in before for name in ("eval_loss", "train_loss")
    )


class InterruptCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """On the first Ctrl-C (or SIGTERM), finishes the step, saves a checkpoint and stops.

    The second one raises KeyboardInterrupt at once. Use as a context manager around
    `trainer.train()`; outside the main thread signals are left alone.

    Attributes:
        interrupted: Whether training was stopped by a signal.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        logger.warning(
            "%s: saving a checkpoint after this step; a second signal stops at once",
            signal.Signals(number).name,
        )

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a save and a stop; ranks agree first, since each has its own signal."""
        if args.world_size > 1:
            flag = torch.tensor(int(self.interrupted), device=args.device)
            torch.distributed.all_reduce(flag)
            self.interrupted = bool(flag.item())
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
