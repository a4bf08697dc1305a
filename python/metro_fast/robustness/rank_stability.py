"""Whether the wording changes which model is best."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import why_not_pairable
from metro_fast.robustness.report import Report

__all__ = ["RankStability", "model_ranks", "rank_stability"]


class RankStability(NamedTuple):
    """How far wordings agree on the order of models.

    Attributes:
        w: Kendall's coefficient of concordance with the correction for ties, from 0 to 1: 1 where
            all wordings have the same order of models.
        tau: The mean of Kendall's tau-b over pairs of wordings; a wording that ranks all models
            alike has 0 with each other.
        p_value: Friedman's test that the models are alike, χ² = P (M - 1) W with M - 1 degrees.
        best_share: Share of the wordings under which the model of the highest mean is the best, or
            as good as the best.
    """

    w: float
    tau: float
    p_value: float
    best_share: float


def rank_stability(values: ArrayLike) -> RankStability:
    """How far wordings agree on the order of models.

    W = 12 S / (P² (M³ - M) - P Σ_p T_p), with S the sum of squared deviations of the models' rank
    sums and T_p = Σ (t³ - t) over the ties of a wording (Kendall and Babington Smith, 1939).

    Args:
        values: `[M, P]`, the metric of each model under each wording; M >= 2, P >= 2.

    Returns:
        The coefficients.

    Raises:
        MetroFastError: If the shape is another one, or a value is not finite.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> stability = rank_stability([[0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]])
        >>> stability.w, stability.tau, stability.best_share
        (1.0, 1.0, 1.0)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise MetroFastError(
            f"values has shape {x.shape}, expected finite numbers [models, wordings] with at "
            "least 2 of each"
        )
    stats = require("scipy.stats", "eval")
    models, wordings = x.shape
    ranks = stats.rankdata(x, axis=0)
    sums = ranks.sum(1)
    square = float(((sums - sums.mean()) ** 2).sum())
    ties = 0.0
    for column in x.T:
        _, counts = np.unique(column, return_counts=True)
        ties += float((counts.astype(np.float64) ** 3 - counts).sum())
    most = wordings**2 * (models**3 - models) - wordings * ties
    # Wordings that rank all models alike agree on nothing.
    w = 12 * square / most if most > 0 else 0.0
    signs = np.sign(x[:, None] - x[None])[np.triu_indices(models, 1)]
    pairs, untied = signs.T @ signs, (signs**2).sum(0)
    scale = np.sqrt(np.outer(untied, untied))
    taus = (pairs / np.where(scale > 0, scale, np.inf))[np.triu_indices(wordings, 1)]
    best = x[x.mean(1).argmax()]
    return RankStability(
        w,
        float(taus.mean()),
        float(stats.chi2.sf(wordings * (models - 1) * w, models - 1)),
        float((best == x.max(0)).mean()),
    )


def model_ranks(reports: Sequence[Report], task: str) -> RankStability:
    """`rank_stability` of several models on one task.

    Args:
        reports: At least two, which were asked the same items in the same wordings.
        task: Name of the task.

    Returns:
        The coefficients.

    Raises:
        MetroFastError: If there are fewer than two reports, one differs in what must not be mixed,
            or there are fewer than two wordings.
        MissingExtraError: If scipy is not installed.
    """
    for other in reports[1:]:
        reason = why_not_pairable(reports[0], other, task)
        if reason is not None:
            raise MetroFastError(reason)
    rows = [
        {row.instruction_id: row.value for row in report.summary(task).instructions}
        for report in reports
    ]
    return rank_stability([[row[name] for name in rows[0]] for row in rows])
