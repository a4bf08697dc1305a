"""A run in a folder: claimed at the start, trained with an orderly Ctrl-C, saved whole."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from metro_fast._training.callbacks import HistoryCallback, InterruptCallback
from metro_fast._training.checkpoints import latest_checkpoint
from metro_fast._training.trainer import SummedLossTrainer
from metro_fast.errors import MetroFastError

logger = logging.getLogger(__name__)
CHECKPOINTS = "checkpoints"
HISTORY = "metrics.jsonl"
RESOLVED = "resolved_config.yaml"


def refuse_other_run(output: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run or a model, unless a run is to be continued.

    Raises:
        MetroFastError: If a run or a model is there and `resume` is False.
    """
    if resume:
        return
    history, checkpoints = output / HISTORY, output / CHECKPOINTS
    # Empty ones are left by a run that failed before its first step, and are no run.
    if (history.exists() and history.stat().st_size > 0) or (
        checkpoints.is_dir() and any(checkpoints.iterdir())
    ):
        raise MetroFastError(
            f"{output} holds a run already: pass resume=True (--resume) to continue it, or choose "
            "another output"
        )
    for name in ("config.json", "adapter_config.json"):
        if (output / name).exists():
            raise MetroFastError(
                f"{output} holds a model ({name}), which would be written over: choose another "
                "output"
            )


def claim_folder(output: Path, *, resume: bool) -> bool:
    """Make the output folder, see that it can be written, and that it holds no other run.

    Call it on every rank once the process group is there (training arguments make it): no rank
    goes on, and writes, before all have looked.

    Args:
        output: The run's folder.
        resume: Whether a run that is there is to be continued.

    Returns:
        Whether there is a checkpoint to resume from.

    Raises:
        OSError: If the folder cannot be made or written.
        MetroFastError: If a run is there and `resume` is False.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output):
        pass
    refuse_other_run(output, resume=resume)
    found = resume and latest_checkpoint(output / CHECKPOINTS) is not None
    PartialState().wait_for_everyone()
    return found


def train_in_folder(
    trainer: SummedLossTrainer, output: Path, *, resume: bool, evaluate: bool
) -> None:
    """Train; a first Ctrl-C saves a checkpoint after the step, then KeyboardInterrupt is raised.

    Args:
        trainer: Its output_dir is `output / "checkpoints"`.
        output: Where `metrics.jsonl` is written.
        resume: Whether to continue from the newest whole checkpoint.
        evaluate: Whether to evaluate after the last step, if that step was not evaluated already.

    Raises:
        KeyboardInterrupt: If training was stopped by Ctrl-C or SIGTERM.
    """
    interrupt = InterruptCallback()
    trainer.add_callback(interrupt)
    trainer.add_callback(HistoryCallback(output / HISTORY))
    with interrupt:
        trainer.train(resume_from_checkpoint=resume)
    if interrupt.interrupted:
        logger.warning("stopped; resume=True continues from step %d", trainer.state.global_step)
        raise KeyboardInterrupt
    last = trainer.state.global_step
    if evaluate and not any(
        line["step"] == last and "eval_loss" in line for line in trainer.state.log_history
    ):
        trainer.evaluate()


def save_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder, then move its files into `folder` by rename.

    Args:
        folder: Where the files end up; other files in it stay.
        write: Called with the temporary folder, on the same file system.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".saving-"))
    try:
        write(temporary)
        for path in sorted(temporary.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
