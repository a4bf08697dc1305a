"""Checkpoints, and the mark that says that one is whole."""

import json
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from transformers import TrainingArguments

from metro_fast._atomic import damaged_file, sync_files, write_atomically
from metro_fast._training.run_loss import RunSums
from metro_fast.errors import FormatError, MetroFastError

logger = logging.getLogger(__name__)

MARK = "metric_window.json"
"""The file that is written last: a checkpoint without it was being written when the run died."""


SET_ASIDE = "damaged-"
"""The beginning of the names of damaged checkpoints, which transformers then neither counts nor
removes."""

Window = dict[str, list[float]]


class Sums(NamedTuple):
    """The sums in a checkpoint, of each rank.

    Attributes:
        windows: Those since the last log line.
        runs: Those since the start of the run; empty in a checkpoint of an earlier version.
    """

    windows: list[Window]
    runs: list[RunSums]


def mark_complete(checkpoint: Path, sums: Sums, *, model_only: bool = False) -> None:
    """Mark a checkpoint as whole: record sums and the files' sizes.

    Args:
        checkpoint: The folder.
        sums: The sums of each rank.
        model_only: Whether the states of optimizer, schedule and generators were left out.
    """
    mark = {**sums._asdict(), "files": sync_files(checkpoint, but=MARK)}
    write_atomically(checkpoint / MARK, json.dumps({**mark, "model_only": model_only}))


def read_mark(checkpoint: Path) -> Sums:
    """Read the sums that `mark_complete` wrote.

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
        runs = [
            {key: float(each[key]) for key in ("loss", "after", "seconds")}
            for each in mark.get("runs", [])
        ]
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
    return Sums(windows, runs)


def _damage(checkpoint: Path) -> str | None:
    """The fault of a checkpoint that has a mark, or None."""
    try:
        read_mark(checkpoint)
    except FormatError as error:
        return str(error).partition(": resume from")[0]
    except MetroFastError:  # it is whole, though no run can continue from it
        return None
    return None


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _by_step(folder: Path) -> dict[int, Path]:
    return {
        step_of(path): path
        for path in folder.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdecimal()
    }


def remove_unfinished(folder: Path, whole: Path) -> None:
    """Remove the checkpoints that were being written or removed when a run died.

    transformers keeps the newest `save_total_limit` checkpoints, whole or not, so such a one could
    push out the last whole one. A damaged one is newer than it, and is renamed.

    Args:
        folder: The output folder of a run that is about to be resumed.
        whole: The checkpoint from which it is resumed.
    """
    for step, path in _by_step(folder).items():
        if not (path / MARK).is_file():
            logger.warning("%s is not whole (it has no %s) and was removed", path, MARK)
            shutil.rmtree(path)
        elif (damage := _damage(path)) is None:
            continue
        elif step > step_of(whole):
            aside = _free_name(path.with_name(f"{SET_ASIDE}{path.name}"))
            path.rename(aside)
            logger.warning("%s; its checkpoint was renamed to %s", damage, aside.name)
        elif _lacks_a_file(path):
            logger.warning("%s was being removed when the run died, and was removed", path)
            shutil.rmtree(path)


def _lacks_a_file(checkpoint: Path) -> bool:
    """Whether a file that the mark names is not there, as while the checkpoint is removed."""
    try:
        names = list(json.loads((checkpoint / MARK).read_bytes())["files"])
    except (ValueError, KeyError, TypeError):
        return False
    return not all((checkpoint / name).is_file() for name in names)


def _free_name(path: Path) -> Path:
    found, number = path, 2
    while found.exists():
        found, number = path.with_name(f"{path.name}-{number}"), number + 1
    return found


def latest_checkpoint(folder: Path) -> Path | None:
    """Find the whole checkpoint of the highest step, or None; half-written ones are skipped.

    Args:
        folder: The output folder of a run.

    Raises:
        FormatError: If there are checkpoints that were whole once, and every one is damaged.
    """
    steps, damages = _by_step(folder), []
    for step in sorted(steps, reverse=True):
        if not (steps[step] / MARK).is_file():
            logger.warning("%s is not whole (it has no %s) and was skipped", steps[step], MARK)
            continue
        damage = _damage(steps[step])
        if damage is None:
            return steps[step]
        logger.warning("%s, so the checkpoint before it is taken", damage)
        damages.append(damage)
    if damages:
        raise FormatError(
            f"no checkpoint in {folder} is whole ({damages[0]}): restore one, or begin the run "
            "again in another output"
        )
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
        FormatError: If there are checkpoints, and every one is damaged.
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
        remove_unfinished(folder, found)
    return found
