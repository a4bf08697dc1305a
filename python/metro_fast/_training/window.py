"""The sums of losses and counters since the last log line, on one rank."""

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from metro_fast._training.objective import Objective, StepResult
from metro_fast.errors import FormatError


class MetricWindow:
    """The fp64 sums of everything that a log line needs; integers stay exact up to 2^53.

    Adding never waits for a device; the numbers are read once per log line.

    Args:
        objective: Its losses and counters are summed.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        size = len(objective.losses)
        self._sizes = {"sums": size, "counts": size, "tokens": 1, **objective.counters}
        self.reset()

    def reset(self) -> None:
        """Set all sums to zero."""
        self._total: Tensor = torch.zeros(sum(self._sizes.values()), dtype=torch.float64)

    def add(self, counts: Tensor, result: StepResult, tokens: Tensor) -> None:
        """Add one batch.

        Args:
            counts: int64 [losses], the counts of this batch alone.
            result: The result of the forward pass.
            tokens: int64 scalar, the tokens of the batch, without padding.
        """
        with torch.no_grad():
            own = {"sums": result.sums, "counts": counts, "tokens": tokens}
            parts = {**own, **result.counters}
            device = result.sums.device
            row = torch.cat([parts[name].to(device).flatten().double() for name in self._sizes])
            self._total = self._total.to(row.device) + row

    def figures(self, accelerator: Accelerator) -> dict[str, float]:
        """Compute losses and figures over all ranks; a collective call that changes nothing.

        Returns:
            `loss`, `<name>_loss` for each loss if there are several, the objective's figures, and
            `tokens`.
        """
        total = self._total
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total.to(accelerator.device), reduction="sum")
        parts = self._split(total.cpu())
        names, weights = self._objective.losses, self._objective.weights
        sums, counts, tokens = (parts.pop(name) for name in ("sums", "counts", "tokens"))
        means = (sums / counts.clamp(min=1)).tolist()
        figures = {"loss": sum(w * mean for w, mean in zip(weights, means, strict=True))}
        if len(names) > 1:
            figures |= {
                f"{name}_loss": mean
                for name, mean, count in zip(names, means, counts, strict=True)
                if count
            }
        return figures | self._objective.figures(parts) | {"tokens": int(tokens)}

    def state(self) -> dict[str, list[float]]:
        """Return the sums as JSON values, which keep every bit of an fp64 number."""
        return {name: part.tolist() for name, part in self._split(self._total.cpu()).items()}

    def load(self, states: Sequence[Mapping[str, list[float]]], rank: int, ranks: int) -> int:
        """Restore sums that `state` returned on each rank of the run that is resumed.

        Args:
            states: Those of each rank. If their number is another now, the first rank takes all.
            rank: This rank.
            ranks: The number of ranks.

        Returns:
            The tokens of all ranks.

        Raises:
            FormatError: If they are those of another objective.
        """
        for state in states:
            sizes = {name: len(part) for name, part in state.items()}
            if sizes != self._sizes:
                raise FormatError(
                    f"the checkpoint holds the sums {sizes}, but this objective needs "
                    f"{self._sizes}: resume with the objective that made the checkpoint"
                )
        rows = [[value for name in self._sizes for value in state[name]] for state in states]
        every = torch.tensor(rows, dtype=torch.float64)
        self.reset()
        if len(states) == ranks:
            self._total = every[rank]
        elif rank == 0:
            self._total = every.sum(0)
        return int(self._split(every.sum(0))["tokens"])

    def _split(self, total: Tensor) -> dict[str, Tensor]:
        parts = torch.split(total, list(self._sizes.values()))
        return dict(zip(self._sizes, parts, strict=True))
