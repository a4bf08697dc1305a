"""The content of `results_*.json`, in lm-eval's shape with our own block."""

from collections.abc import Mapping, Sequence
from typing import Any

from metro_fast.robustness.cells import Cell, cell_file_name
from metro_fast.robustness.summary import TaskSummary

__all__ = ["RESULTS_FORMAT", "cell_entry", "results_record"]

RESULTS_FORMAT = "metro_fast.report/1"


def results_record(
    cells: Sequence[Cell],
    summaries: Sequence[TaskSummary],
    versions: Mapping[str, str],
    date: float,
) -> dict[str, Any]:
    """The plain JSON values of a report.

    lm-eval's keys come first: every instruction is a task `<task>/<instruction>`, and every task a
    group whose accuracy is the plain mean over its instructions. `lm_eval.utils.make_table` prints
    them as its own. Our keys are under `metro_fast`.

    Args:
        cells: All cells of one model.
        summaries: The numbers of the model's tasks.
        versions: Versions of the software that scored them.
        date: When they were scored, in seconds since 1970.

    Returns:
        The values; in `metro_fast.tasks`, all numbers are given with their model, items and preset.
    """
    results, groups, subtasks, samples = {}, {}, {}, {}
    for summary in summaries:
        subtasks[summary.task] = [
            f"{summary.task}/{i.instruction_id}" for i in summary.instructions
        ]
        total = sum(row.total for row in summary.instructions)
        groups[summary.task] = _row(summary.task, summary.mean_accuracy, "N/A", total)
        # Controls have results, but they are outside the group, whose accuracy is a mean.
        for row in (*summary.instructions, *summary.controls):
            name = f"{summary.task}/{row.instruction_id}"
            results[name] = _row(
                name, row.accuracy, _standard_error(row.accuracy, row.total), row.total
            )
            samples[name] = {"original": row.total, "effective": row.total}
    tasks = dict.fromkeys(results)
    # lm-eval prints its table from `results` alone, where groups come too.
    results |= groups
    record = cells[0].record
    return {
        "results": results,
        "groups": groups,
        "group_subtasks": subtasks,
        "configs": {
            f"{c.record.task}/{c.record.instruction.id}": {
                "task": f"{c.record.task}/{c.record.instruction.id}",
                "output_type": "multiple_choice",
                "doc_to_text": c.record.instruction.text,
                "num_fewshot": 0,
            }
            for c in cells
        },
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": {name: {"acc": True} for name in results},
        "n-samples": samples,
        "config": {"model": "metro_fast", "model_name": record.model_name},
        "date": date,
        "task_hashes": {
            f"{c.record.task}/{c.record.instruction.id}": c.record.items_hash for c in cells
        },
        "metro_fast": {
            "format": RESULTS_FORMAT,
            "model_name": record.model_name,
            "model_family": record.model_family,
            "model_hash": record.model_hash,
            "tokenizer_hash": record.tokenizer_hash,
            "preset": record.preset,
            "max_input_length": record.max_input_length,
            "max_target_length": record.max_target_length,
            "versions": dict(versions),
            "tasks": [summary.to_record() for summary in summaries],
            "cells": [cell_entry(cell) for cell in cells],
        },
    }


def _row(name: str, accuracy: float, error: float | str, total: int) -> dict[str, Any]:
    """A task or a group as in lm-eval."""
    return {
        "name": name,
        "alias": name,
        "sample_len": total,
        "acc,none": accuracy,
        "acc_stderr,none": error,
    }


def cell_entry(cell: Cell) -> dict[str, str]:
    """The file of a cell, and the hashes that identify it."""
    r = cell.record
    return {
        "file": cell_file_name(r.model_name, r.task, r.instruction.id),
        "identity": r.identity,
        "instruction_hash": r.instruction_hash,
    }


def _standard_error(accuracy: float, total: int) -> float | str:
    """The standard error as in lm-eval: ddof 1, and "N/A" for a single item."""
    return (accuracy * (1 - accuracy) / (total - 1)) ** 0.5 if total > 1 else "N/A"
