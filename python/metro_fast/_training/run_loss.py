"""The mean loss of the steps of a whole run, which is reported as `train_loss` at its end."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

RunSums = dict[str, float]
"""`loss`: the sum of the losses of the steps on one rank; `after`: the step after which they were
made; `seconds`: the time they took."""


class RunLoss:
    """The sum of the losses of all steps, which a checkpoint holds; adding waits for no device.

    transformers keeps this sum for the steps since the last resume alone.

    Example:
        >>> whole = RunLoss()
        >>> whole.add(torch.tensor(3.0), ranks=1)
        >>> whole.state(seconds=0.5)
        {'loss': 3.0, 'after': 0, 'seconds': 0.5}
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, after: int = 0) -> None:
        """Forget the steps up to one.

        Args:
            after: The step after which the sum begins.
        """
        self._sum: Tensor = torch.zeros((), dtype=torch.float64)
        self._after = after

    def add(self, loss: Tensor, *, ranks: int) -> None:
        """Add the loss of one micro-step.

        Args:
            loss: Scalar; the mean of those of all ranks is that of the step.
            ranks: The number of ranks.
        """
        self._sum = self._sum.to(loss.device) + loss.detach().double() / ranks

    def mean(self, step: int, accelerator: Accelerator) -> float:
        """The mean over the steps up to one, and over all ranks; a collective call.

        Args:
            step: The last step.
            accelerator: Joins the ranks.
        """
        total = self._sum
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total.to(accelerator.device), reduction="sum")
        return float(total) / max(step - self._after, 1)

    def state(self, seconds: float) -> RunSums:
        """The sums of this rank as JSON values.

        Args:
            seconds: The time of the steps so far.
        """
        return {"loss": float(self._sum), "after": self._after, "seconds": seconds}

    def load(self, states: Sequence[RunSums], step: int, rank: int, ranks: int) -> float:
        """Restore what `state` returned on each rank of the run that is resumed.

        Args:
            states: Those of each rank; of an older checkpoint none, so that the mean is over the
                steps from here on. If their number is another now, the first rank takes all.
            step: The step of the checkpoint.
            rank: This rank.
            ranks: The number of ranks.

        Returns:
            The seconds of the steps so far.
        """
        self.reset(int(states[0]["after"]) if states else step)
        if len(states) == ranks:
            self._sum += states[rank]["loss"]
        elif rank == 0:
            self._sum += sum(state["loss"] for state in states)
        return states[0]["seconds"] if states else 0.0
