"""Resuming a run with another length or with other intervals than it was begun with."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from metro_fast._pretrained import explained
from metro_fast.errors import MetroFastError

logger = logging.getLogger(__name__)


class ResumedRunCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Puts the arguments of a resumed run in force where transformers keeps the checkpoint's.

    A checkpoint holds the intervals of the run that wrote it, and the learning rate that its
    schedule had for the next step; transformers takes both. A run that decayed to a rate of 0 and
    was then made longer would take its next step at 0.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Set the intervals, and the rates of the next step by the schedule of the whole run."""
        if state.global_step == 0:
            return
        names = ("logging_steps", "save_steps", "eval_steps")
        before = {name: getattr(state, name) for name in names}
        state.compute_steps(args, state.max_steps)
        changed = [
            f"{name} {getattr(state, name)}"
            for name in names
            if getattr(state, name) != before[name]
        ]
        if changed and state.is_world_process_zero:
            # transformers has just warned that they differ, as if it were a mistake.
            logger.warning("the intervals given now are in force: %s", ", ".join(changed))
        schedule = kwargs["lr_scheduler"]
        if isinstance(schedule, LambdaLR):
            rates = [
                base * factor(schedule.last_epoch)
                for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            ]
            for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates


def planned_steps(args: TrainingArguments, loader: Callable[[], DataLoader[Any]]) -> int:
    """Number of steps that the arguments ask for.

    Args:
        args: The training arguments.
        loader: Makes the loader of the training rows; called if the length is given in epochs.
    """
    if args.max_steps > 0:
        return int(args.max_steps)
    per_epoch = max(1, math.ceil(len(loader()) / args.gradient_accumulation_steps))
    steps: int = math.ceil(args.num_train_epochs * per_epoch)
    return steps


def check_length(reached: int, steps: int, name: str = "max_steps") -> None:
    """Refuse a length that a run has left behind.

    Args:
        reached: The step of the newest checkpoint.
        steps: The number of steps that is asked for.
        name: What the user calls it.

    Raises:
        MetroFastError: If `steps` is less than `reached`.
    """
    if steps < reached:
        raise MetroFastError(
            f"{name} is {steps}, but the run has reached step {reached}: give {reached} or more, "
            "or resume from an earlier checkpoint"
        )


def state_of(checkpoint: Path) -> TrainerState:
    """Read the trainer's state in a checkpoint.

    Args:
        checkpoint: The folder of the checkpoint.

    Raises:
        FormatError: If the state is damaged.
    """
    with explained(f"the state of {checkpoint}"):
        return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
