"""The figures that have a panel, their order, and the colors and dashes of the runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metro_fast._svg import round_step
from metro_fast.metro.curves_runs import Points, Run

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colors, which readers with any kind of color vision can distinguish."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""The dashes of the runs, so that equal curves of two runs are both seen, also in print."""

TITLES = {
    "mlm_loss": "Auxiliary model's loss (mlm_loss)",
    "lm_loss": "Decoder's loss (lm_loss)",
    "rtd_loss": "Detection's loss (rtd_loss)",
    "loss": "Loss",
    "aux_accuracy": "Auxiliary model's accuracy",
    "lm_accuracy": "Decoder's accuracy",
    "token_accuracy": "Token accuracy",
    "rtd_auc": "Detection's area under the curve (rtd_auc)",
    "rtd_recall": "Replaced tokens that are found (rtd_recall)",
    "replace_ratio": "Share of replaced tokens (replace_ratio)",
    "learning_rate": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "tokens_per_second": "Tokens per second",
}
"""The panels, in their order; further losses come after the known ones."""


@dataclass(frozen=True)
class Panel:
    """The curves of one figure.

    Attributes:
        name: The figure.
        title: Its heading.
        in_nats: Whether it is a loss per token, which has bits too.
        curves: Training and evaluation points of each run, in the order of the runs.
    """

    name: str
    title: str
    in_nats: bool
    curves: tuple[tuple[Points, Points], ...]

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """First and last step, and the lowest and highest round number around the values."""
        points = [point for pair in self.curves for part in pair for point in part]
        steps, values = zip(*points, strict=True)
        low, high = min(values), max(values)
        if high == low:
            low, high = low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9
        for _ in range(2):  # the wider range may have wider ticks
            tick = round_step(high - low)
            low, high = math.floor(low / tick + 1e-9) * tick, math.ceil(high / tick - 1e-9) * tick
        last = max(steps)
        first = min(0, *steps)
        return first, last if last > first else first + 1, low, high


def panels(runs: Sequence[Run]) -> list[Panel]:
    """The panels of the figures that at least one run has.

    Args:
        runs: The runs.
    """
    names = {name for run in runs for part in (run.training, run.evaluation) for name in part}
    several = [
        run
        for run in runs
        if any(name.endswith("_loss") for name in {*run.training, *run.evaluation})
    ]
    further = sorted(name for name in names if name.endswith("_loss") and name not in TITLES)
    found = []
    for name in [*list(TITLES)[:3], *further, *list(TITLES)[3:]]:
        if name not in names:
            continue
        title = TITLES.get(name, name)
        if name == "loss" and several:
            title = "Total loss, weighted (loss)"
        in_nats = name.endswith("_loss") or (name == "loss" and not several)
        curves = tuple((run.training.get(name, ()), run.evaluation.get(name, ())) for run in runs)
        found.append(Panel(name, title, in_nats, curves))
    return found


def color(number: int) -> str:
    """The color of a run."""
    return COLORS[number % len(COLORS)]


def dashes(number: int) -> str:
    """The dashes of a run's line, as SVG writes them.

    Example:
        >>> dashes(0), dashes(5)
        ('', '7 3')
    """
    return DASHES[number % len(DASHES)]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers inside a range, two to six of them.

    Example:
        >>> ticks(0, 300)
        [0.0, 100.0, 200.0, 300.0]
    """
    step = round_step(high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]
