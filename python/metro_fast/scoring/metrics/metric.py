"""A metric of a task: what each answer adds, and the number that sums of answers give."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

__all__ = ["Answer", "Metric"]


class Answer(NamedTuple):
    """One answer as a metric reads it.

    Attributes:
        gold: The right answer in the item's own terms, whatever the reading calls it.
        given: The given label in the same terms, or the written text; `""` if the answer could not
            be read.
        right: Whether the prediction was the right choice of its reading.
    """

    gold: str
    given: str
    right: bool


@dataclass(frozen=True, repr=False)
class Metric(ABC):
    """A number of many answers that depends only on sums over them.

    `parts` gives what each answer adds, and `value` the metric of such sums, so that a resample of
    items costs one product of matrices for every metric alike. `METRICS` has them all.

    Attributes:
        name: Key of `METRICS`.
        label: Name in tables.
        binary: Whether each item scores 0 or 1 and the metric is their mean.

    Example:
        >>> from metro_fast.scoring import find_metric
        >>> answers = [Answer("Rome", "rome.", False), Answer("Oslo", "in Oslo", False)]
        >>> metric = find_metric("token_f1")
        >>> parts = metric.parts(answers)
        >>> float(metric.value(parts.sum(0))), metric.item_values(parts)
        (0.8333333333333333, array([1.        , 0.66666667]))
    """

    name: str
    label: str
    binary: bool

    def __repr__(self) -> str:
        return f"<Metric {self.name}>"

    @abstractmethod
    def parts(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """Count what each answer adds.

        Args:
            answers: At least one.

        Returns:
            `[N, k]`, float64. The columns depend on the right answers alone, so that two models
            have the same ones on the same items.

        Raises:
            MetroFastError: If there are no answers, or a label cannot be read.
            TypeError: If a text is not a string.
        """

    @abstractmethod
    def value(self, sums: ArrayLike) -> NDArray[np.float64]:
        """Compute the metric from sums of parts.

        Args:
            sums: `[..., k]`.

        Returns:
            `[...]`, float64, each from 0 to 1.
        """

    @abstractmethod
    def gradient(self, sums: ArrayLike) -> NDArray[np.float64]:
        """Differentiate `value` at one vector of sums.

        Args:
            sums: `[k]`.

        Returns:
            `[k]`, float64.
        """

    def check(self, gold: Sequence[str]) -> None:
        """Check that the metric can read the right answers of a task.

        Args:
            gold: Right answers, at least one.

        Raises:
            MetroFastError: If the list is empty, or one of them cannot be read.
            TypeError: If one is not a string.
        """
        if not gold:
            raise MetroFastError(f"there are no right answers; {self.name} needs at least 1")
        for label in gold:
            if not isinstance(label, str):
                raise TypeError(f"label {quoted(label)} is not a string")

    def item_values(self, parts: ArrayLike) -> NDArray[np.float64]:
        """Values of the items, whose mean is the metric.

        For a mean these are the scores of the items. For F1 they are the metric plus its influence
        function, value + N gradient(sums) · (s_i - s̄), the infinitesimal jackknife (Efron, The
        Jackknife, the Bootstrap and Other Resampling Plans, SIAM 1982, chapter 6). Their variance
        over N is the delta method's variance of the metric, so that variances and paired
        differences hold to first order. A value may be outside [0, 1].

        Args:
            parts: `[N, k]`, from `parts`.

        Returns:
            `[N]`, float64.

        Raises:
            MetroFastError: If `parts` is not 2-D or has no rows.
        """
        rows = _checked(parts)
        sums = rows.sum(0)
        shift = (rows - sums / len(rows)) @ self.gradient(sums)
        return np.asarray(self.value(sums) + len(rows) * shift)

    def of(self, answers: Sequence[Answer]) -> float:
        """The metric of some answers.

        Args:
            answers: At least one.

        Returns:
            A number from 0 to 1.

        Raises:
            MetroFastError: As `parts`.
            TypeError: As `parts`.

        Example:
            >>> from metro_fast.scoring import find_metric
            >>> find_metric("accuracy").of([Answer("a", "a", True), Answer("a", "b", False)])
            0.5
        """
        return float(self.value(self.parts(answers).sum(0)))


def _checked(parts: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(parts, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise MetroFastError(
            f"parts has shape {rows.shape}, expected [items, columns] with at least 1 item"
        )
    return rows
