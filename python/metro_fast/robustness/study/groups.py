"""Tasks that may be averaged: of one metric, split and set of instructions."""

from collections.abc import Sequence

from metro_fast.robustness.summary import TaskSummary

__all__ = ["alike"]


def alike(
    summaries: Sequence[TaskSummary], *, same_wordings: bool = True
) -> list[list[TaskSummary]]:
    """Put the tasks of one report into as few lists as may be averaged (`pooled`).

    Args:
        summaries: Tasks of one report.
        same_wordings: Whether their instructions must be the same ones as well.

    Returns:
        Lists in the order of their first tasks.
    """
    found: dict[tuple[object, ...], list[TaskSummary]] = {}
    for summary in summaries:
        ids = frozenset(row.instruction_id for row in summary.instructions)
        key = (summary.metric, summary.split, ids if same_wordings else None)
        found.setdefault(key, []).append(summary)
    return list(found.values())
