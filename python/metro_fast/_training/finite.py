"""A run stops at the step whose loss or gradient is not finite, and keeps the batch that did it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor

from metro_fast._atomic import write_atomically
from metro_fast._training.objective import Batch
from metro_fast.errors import MetroFastError

SHOWN_IDS = 16


class FiniteGuard:
    """Watches the losses of an accumulation window, and the gradient that comes of it.

    Adding never waits for the device; `check` reads one small tensor a step, before the optimizer
    uses the gradient, so that the weights are still those of the step before.

    Args:
        folder: Where the offending batch is saved.
        losses: Names of the losses.
    """

    def __init__(self, folder: str | Path, losses: Sequence[str]) -> None:
        self._folder, self._losses = Path(folder), tuple(losses)
        self._batches: Sequence[Batch] = ()
        self._sums: list[Tensor] = []

    def begin(self, batches: Sequence[Batch]) -> None:
        """Start a window.

        Args:
            batches: Its batches, which are kept until the next window.
        """
        self._batches, self._sums = batches, []

    def add(self, sums: Tensor) -> None:
        """Add the fp32 [losses] sums of the next batch of the window."""
        self._sums.append(sums.detach())

    def refused(self, error: MetroFastError, step: int, accelerator: Accelerator) -> MetroFastError:
        """Save the batch that the model has just refused, for instance since its logits are NaN.

        Args:
            error: Why it was refused.
            step: The number of the step that was about to be made.
            accelerator: Knows the rank.

        Returns:
            The error to raise instead, which names the step, the micro-step and the rows.

        Raises:
            OSError: If the batch cannot be saved.
        """
        number = len(self._sums)
        path = self._save(step, [number], accelerator, name="refused", reason=str(error))
        return MetroFastError(
            f"{error} (step {step}, micro-step {number + 1} of {len(self._batches)}"
            f"{_rank(accelerator)}; {sample_ids_text(self._batches[number])}; the batch is in "
            f"{path}; the weights in memory and the last checkpoint are those before this step). "
            "If a number is not finite, lower the learning rate or max_grad_norm"
        )

    def check(self, step: int, norm: Tensor | float | None, accelerator: Accelerator) -> None:
        """Stop all ranks if a loss or the gradient is not finite on one; a collective call.

        Args:
            step: The number of the step that is about to be made.
            norm: The norm of the gradient, the same on all ranks; None if it is unknown.
            accelerator: Joins the ranks.

        Raises:
            MetroFastError: If so. Each rank with an offending batch has saved it by then.
            OSError: If it cannot be saved.
        """
        if not self._sums:
            return
        sums = torch.stack(self._sums)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        size = torch.as_tensor(0.0 if norm is None else norm, device=sums.device)
        bad = torch.stack([(~sums.isfinite()).any(), ~size.isfinite()]).float()
        if accelerator.num_processes > 1:
            bad = accelerator.reduce(bad.to(accelerator.device), reduction="sum")
        in_losses, in_gradient = (bad > 0).tolist()
        if in_losses:
            found = self._offending_batch(step, sums.cpu(), accelerator)
        elif in_gradient:
            found = self._offending_gradient(step, float(size), accelerator)
        else:
            return
        texts = gather_object([found]) if accelerator.num_processes > 1 else [found]
        raise MetroFastError(
            f"{'; '.join(text for text in texts if text)}. Lower the learning rate or "
            "max_grad_norm, or check the input for damage; the weights in memory and the last "
            "checkpoint are those before this step"
        )

    def _offending_batch(self, step: int, sums: Tensor, accelerator: Accelerator) -> str:
        """Save this rank's first batch whose loss is not finite, and describe it; "" without."""
        wrong = (~sums.isfinite()).any(1).nonzero().flatten().tolist()
        if not wrong:
            return ""
        first = wrong[0]
        values = dict(zip(self._losses, sums[first].tolist(), strict=True))
        names = [name for name, value in values.items() if not torch.tensor(value).isfinite()]
        path = self._save(step, [first], accelerator, losses=values)
        return (
            f"the loss is {values[names[0]]} at step {step} ({', '.join(names)}; micro-step "
            f"{first + 1} of {len(sums)}{_rank(accelerator)}; "
            f"{sample_ids_text(self._batches[first])}; its batch is in {path})"
        )

    def _offending_gradient(self, step: int, norm: float, accelerator: Accelerator) -> str:
        """Save every batch of the window: a gradient is that of all."""
        path = self._save(step, range(len(self._batches)), accelerator, gradient_norm=norm)
        ids = "; ".join(sample_ids_text(batch) for batch in self._batches)
        return (
            f"the norm of the gradient is {norm} at step {step}, though every loss is finite "
            f"({len(self._batches)} micro-steps{_rank(accelerator)}; {ids}; their batches are in "
            f"{path})"
        )

    def _save(
        self,
        step: int,
        numbers: Sequence[int],
        accelerator: Accelerator,
        *,
        name: str = "nonfinite",
        **about: Any,
    ) -> Path:
        """Write batches so that `torch.load(path, weights_only=True)` reads them."""
        several = accelerator.num_processes > 1
        rank = f"-rank-{accelerator.process_index}" if several else ""
        batches = [
            {
                key: value.cpu() if isinstance(value, Tensor) else value
                for key, value in self._batches[number].items()
            }
            for number in numbers
        ]
        micro_steps = [number + 1 for number in numbers]
        content = io.BytesIO()
        torch.save({"step": step, "micro_steps": micro_steps, "batches": batches, **about}, content)
        path = self._folder / f"{name}-batch-step-{step}{rank}.pt"
        return write_atomically(path, content.getvalue())


def _rank(accelerator: Accelerator) -> str:
    several = accelerator.num_processes > 1
    return f" on rank {accelerator.process_index}" if several else ""


def sample_ids_text(batch: Batch) -> str:
    """Name the rows of a batch by their sample ids.

    Example:
        >>> sample_ids_text({"sample_ids": torch.tensor([3, 7])})
        'sample ids 3, 7'
    """
    ids = batch.get("sample_ids", batch.get("sample_id"))
    if ids is None:
        return "rows without sample ids"
    listed = torch.as_tensor(ids).flatten().tolist()
    more = len(listed) - SHOWN_IDS
    rest = f" and {more} more" if more > 0 else ""
    return f"sample ids {', '.join(map(str, listed[:SHOWN_IDS]))}{rest}"
