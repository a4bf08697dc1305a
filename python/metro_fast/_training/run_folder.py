"""The folder of one run: claimed at the start, trained in, and saved whole at the end."""

import functools
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from metro_fast._atomic import write_atomically, write_folder
from metro_fast._ranks import is_first, owned_by_first
from metro_fast._temporary import remove_unfinished_writes
from metro_fast._training.callbacks import HistoryCallback, InterruptCallback
from metro_fast._training.checkpoints import latest_checkpoint, step_of
from metro_fast._training.extension import check_length
from metro_fast._training.recorded_settings import (
    changed_settings,
    plain_settings,
    read_settings,
)
from metro_fast._training.trainer import SummedLossTrainer
from metro_fast.errors import MetroFastError

logger = logging.getLogger(__name__)
HISTORY = "metrics.jsonl"
RESOLVED = "resolved_config.yaml"


class RunFolder:
    """A folder for a run's settings, checkpoints, history and result.

    Nothing is written before `open` or `record`. Every rank calls `open`, `train` and `save`, all
    of them while the folder is `owned`.

    Args:
        path: The folder.
        resume: Whether to continue the run that the folder holds.

    Raises:
        MetroFastError: If the folder holds a run and `resume` is False, or a model that no run
            made.

    Example:
        >>> run = RunFolder(Path("new-run"), resume=False)
        >>> run
        RunFolder('new-run', resume=False)
        >>> run.resumes
        False
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self._resume = path, resume
        self._refuse_other_run()

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r}, resume={self._resume})"

    @classmethod
    @contextmanager
    def owned(cls, path: Path, *, resume: bool) -> "Iterator[RunFolder]":
        """The folder, which no other run may enter during the `with`.

        Args:
            path: The folder.
            resume: As for the class.

        Raises:
            MetroFastError: If another run writes to it; else as for the class.
            OSError: If the folder cannot be made or written.
        """
        with owned_by_first(path):
            if is_first():
                remove_unfinished_writes(path, "main", "checkpoints", "checkpoints/*")
            yield cls(path, resume=resume)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints: the trainer's `output_dir`."""
        return self.path / "checkpoints"

    @functools.cached_property
    def resumes(self) -> bool:
        """Whether there is a whole checkpoint to continue from, and it is wanted."""
        return self._resume and latest_checkpoint(self.checkpoints) is not None

    def open(self) -> None:
        """Make the folder, and check that it can be written and holds no other run.

        A run that is to be resumed and has no checkpoint begins at its first step, with a warning.

        Call it on every rank after the training arguments are made, since they make the process
        group: no rank continues, and writes, before all ranks have looked.

        Raises:
            OSError: If the folder cannot be made or written.
            MetroFastError: If another run has written there in the meantime.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path):
            pass
        self._refuse_other_run()
        # Looked up before any rank writes a checkpoint. A wrong name looks like this too.
        if self._resume and not self.resumes and PartialState().is_main_process:
            logger.warning(
                "%s holds no checkpoint to continue from: the run begins at its first step",
                self.path,
            )
        PartialState().wait_for_everyone()

    def record(
        self, settings: Any, *, free: Collection[str], steps: tuple[str, int] | None = None
    ) -> None:
        """Write `resolved_config.yaml`; a resumed run must have the settings that are there.

        Args:
            settings: A dataclass or mapping of numbers, texts, paths, lists of them, and sections,
                which are again dataclasses or mappings.
            free: Names of settings that a resumed run may change: its length, and those that do not
                change what is learned. A setting in a section has the section's name before a dot,
                such as `training.save_steps`; the name of a section frees all of it.
            steps: The name and the value of the number of steps; if given, a resumed run must not
                have gone further.

        Raises:
            MetroFastError: If a resumed run has other settings, or more steps than are wanted.
            TypeError: If a setting is of another type.
            FormatError: If the file that is there is damaged.
            OSError: If the folder cannot be written.
        """
        values = plain_settings(settings)
        path = self.path / RESOLVED
        newest = latest_checkpoint(self.checkpoints) if self.resumes else None
        if newest is not None and steps is not None:
            check_length(step_of(newest), steps[1], steps[0])
        if newest is not None and path.exists():
            changed = changed_settings(read_settings(path), values, free)
            if changed:
                raise MetroFastError(
                    f"{self.path} holds a run with other settings ({'; '.join(changed)}): resume "
                    "with the same settings, or choose another output"
                )
        write_atomically(path, yaml.safe_dump(values, sort_keys=False))

    def train(self, trainer: SummedLossTrainer, *, evaluate: bool) -> None:
        """Train; the first Ctrl-C saves a checkpoint after the step and stops.

        Args:
            trainer: A trainer whose output_dir is `checkpoints`.
            evaluate: Whether to evaluate after the last step, unless it has been evaluated already.

        Raises:
            KeyboardInterrupt: If training was stopped by Ctrl-C or SIGTERM.
        """
        interrupt = InterruptCallback()
        trainer.add_callback(interrupt)
        trainer.add_callback(HistoryCallback(self.path / HISTORY))
        with interrupt:
            trainer.train(resume_from_checkpoint=self.resumes)
        last = trainer.state.global_step
        if interrupt.interrupted:
            logger.warning("stopped; the run can be resumed from step %d", last)
            raise KeyboardInterrupt
        evaluated = any(
            line["step"] == last and "eval_loss" in line for line in trainer.state.log_history
        )
        if evaluate and not evaluated:
            trainer.evaluate()

    def save(self, write: Callable[[Path], object], *, under: str = "") -> None:
        """Let the first rank write files that appear whole; other files in the folder stay.

        Args:
            write: Called with a temporary folder, which it fills.
            under: Name of the subfolder to write to; empty for the folder itself.

        Raises:
            OSError: If the folder cannot be written.
        """
        if PartialState().is_main_process:
            write_folder(self.path / under, write, keep_others=True)

    def _refuse_other_run(self) -> None:
        history = self.path / HISTORY
        # A run that failed before its first step leaves these behind empty.
        holds_run = (history.exists() and history.stat().st_size > 0) or (
            self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        )
        if holds_run and self._resume:
            return
        if holds_run:
            raise MetroFastError(
                f"{self.path} holds a run already: pass resume=True to continue it, or "
                "choose another output"
            )
        for name in ("config.json", "adapter_config.json"):
            if (self.path / name).exists():
                raise MetroFastError(
                    f"{self.path} holds a model ({name}), which would be overwritten: choose "
                    "another output"
                )
