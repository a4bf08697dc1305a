"""Checkpoints, and the mark that says that one is whole."""

import json
import logging
import shutil
from pathlib import Path

from transformers import TrainingArguments

from metro_fast._atomic import damaged_file, sync_files, write_atomically
from metro_fast.errors import FormatError, MetroFastError

logger = logging.getLogger(__name__)

MARK = "metric_window.json"
"""The file that is written last: a checkpoint without it was being written when the run died."""


Window = dict[str, list[float]]


def mark_complete(checkpoint: Path, windows: list[Window], *, model_only: bool = False) -> None:
    """Mark a checkpoint as whole: record sums and the files' sizes.

    Args:
        checkpoint: The folder.
        windows: The sums since the last log line, of each rank.
        model_only: Whether the states of optimizer, schedule and generators were left out.
    """
    mark = {"windows": windows, "files": sync_files(checkpoint, but=MARK)}
    write_atomically(checkpoint / MARK, json.dumps({**mark, "model_only": model_only}))


def read_mark(checkpoint: Path) -> list[Window]:
    """Read the sums that `mark_complete` wrote, of each rank.

    Raises:
        MetroFastError: If there is no mark, or a run cannot continue from the checkpoint.
        FormatError: If the mark is damaged, or a file of the checkpoint is missing or cut.
    """
    path = checkpoint / MARK
    if not path.is_file():
        raise MetroFastError(
            f"{checkpoint} has no {MARK}, so it was being written when its run died, or another "
            "trainer made it: resume from an earlier checkpoint"
        )
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
        # earlier versions wrote one window, that of all ranks together
        windows = [dict(each) for each in mark.get("windows") or [mark["window"]]]
        files, model_only = dict(mark["files"]), bool(mark.get("model_only"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{path} is damaged ({error}): resume from an earlier checkpoint"
        ) from error
    damage = damaged_file(checkpoint, files)
    if damage is not None:
        raise FormatError(f"{damage}: resume from an earlier checkpoint")
    if model_only:
        raise MetroFastError(
            f"{checkpoint} was saved with save_only_model=True, that is, without the states of the "
            "optimizer, its schedule and the generators, so no run can continue from it: resume "
            "from a checkpoint that has them, or start a new run with its weights"
        )
    return windows


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _by_step(folder: Path) -> dict[int, Path]:
    return {
        step_of(path): path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdecimal()
    }


def remove_unfinished(folder: Path) -> None:
    """Remove the checkpoints that were being written when a run died.

    transformers keeps the newest `save_total_limit` checkpoints, whole or not, so a half-written
    one could push out the last whole one.

    Args:
        folder: The output folder of a run that is about to be resumed.
    """
    for path in _by_step(folder).values():
        if not (path / MARK).is_file():
            logger.warning("%s is not whole (it has no %s) and was removed", path, MARK)
            shutil.rmtree(path)


def latest_checkpoint(folder: Path) -> Path | None:
    """Find the whole checkpoint of the highest step, or None; half-written ones are skipped.

    Args:
        folder: The output folder of a run.
    """
    steps = _by_step(folder)
    for step in sorted(steps, reverse=True):
        if (steps[step] / MARK).is_file():
            return steps[step]
        logger.warning("%s is not whole (it has no %s) and was skipped", steps[step], MARK)
    return None


def checkpoint_to_resume(wanted: str | Path | bool | None, args: TrainingArguments) -> Path | None:
    """Find the checkpoint that training is to continue from.

    Args:
        wanted: True for the newest whole one in `args.output_dir`, whose unfinished ones are then
            removed; or the folder of a checkpoint; or False or None for a new run.
        args: The training arguments.

    Returns:
        The folder, or None for a new run.

    Raises:
        MetroFastError: If there is no whole checkpoint.
    """
    if wanted is not True:
        return Path(wanted) if wanted else None
    folder = Path(args.output_dir)
    found = latest_checkpoint(folder)
    if found is None:
        raise MetroFastError(
            f"{folder} has no whole checkpoint to resume from: start the run without resume"
        )
    if args.should_save:
        remove_unfinished(folder)
    return found
