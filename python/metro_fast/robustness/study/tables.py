"""All tables of a study, by name."""

from collections.abc import Callable, Mapping
from functools import partial

from metro_fast.robustness.study.curves import scale_table
from metro_fast.robustness.study.kinds_of_task import facet_gap_table, facet_table
from metro_fast.robustness.study.protocols import rank_table, reading_table
from metro_fast.robustness.study.references import reference_table
from metro_fast.robustness.study.scores import (
    broken_table,
    control_table,
    model_table,
    score_table,
    wording_table,
)
from metro_fast.robustness.study.seen import (
    seen_kind_table,
    seen_task_table,
    seen_wording_table,
)
from metro_fast.robustness.study.study import Study
from metro_fast.robustness.study.table import Table

__all__ = ["TABLES", "study_tables"]

TABLES: Mapping[str, Callable[..., Table]] = {
    "models": model_table,
    "scores": score_table,
    "broken": broken_table,
    "against_base": partial(reference_table, reference="base"),
    "against_original": partial(reference_table, reference="original"),
    "seen_wordings": seen_wording_table,
    "seen_kinds": seen_kind_table,
    "seen_tasks": seen_task_table,
    "facets": facet_table,
    "facet_gaps": facet_gap_table,
    "scale": scale_table,
    "readings": reading_table,
    "ranks": rank_table,
    "controls": control_table,
    "wordings": wording_table,
}
"""The function of each table, which takes a study; those with verdicts take a margin as well."""

_WITH_MARGIN = ("against_base", "against_original", "scale")


def study_tables(
    study: Study, *, only: tuple[str, ...] | list[str] = (), margin: float = 0.01
) -> dict[str, Table]:
    """The tables of a study.

    Args:
        study: The study.
        only: Names of tables, of `TABLES`; all of them by default.
        margin: Differences of the metric up to this count as equal; 0.01 is a point.

    Returns:
        The tables by name. One without rows is there too: its notes may say why it is empty.

    Raises:
        KeyError: If a name is unknown.
        MetroFastError: If the margin is out of range.
        MissingExtraError: If scipy is not installed.
    """
    return {
        name: TABLES[name](study, **({"margin": margin} if name in _WITH_MARGIN else {}))
        for name in only or TABLES
    }
