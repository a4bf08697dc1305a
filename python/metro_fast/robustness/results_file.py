"""`results_*.json`: the numbers of a report in lm-eval's shape, with our own block."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast._memory import check_decoded
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction
from metro_fast.robustness.cell_files import CellFolder
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.summary import InstructionScore, TaskSummary

__all__ = ["RESULTS_FORMAT", "ResultsFile", "read_results", "results_files", "write_results"]

RESULTS_FORMAT = "metro_fast.report/2"
_NOTES = ("task_type", "split", "metric", "shots")
_LM_EVAL_NAMES = {"accuracy": "acc", "token_f1": "f1"}


@dataclass(frozen=True)
class ResultsFile:
    """A results file: which cells it is about, and where they come from.

    A cell's answers are in its own file, which other results may name too. So the notes that do not
    change answers (family, metric, seen labels) are here.

    Attributes:
        path: The file.
        files: File and identity of each cell.
        notes: What this file says of each cell, by field of `CellRecord`.
        versions: Versions of the software that scored the cells.
        date: When they were scored, in seconds since 1970.
    """

    path: Path
    files: tuple[tuple[str, str], ...]
    notes: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    date: float

    def cells(self) -> list[Cell]:
        """The cells that it names.

        Raises:
            FileNotFoundError: If a file of a cell is missing.
            FormatError: If one is damaged, or is not the cell that the results name.
        """
        folder = CellFolder(self.path.parent)
        found = []
        for (name, identity), notes in zip(self.files, self.notes, strict=True):
            cell = folder.load(name)
            if cell.record.identity != identity:
                raise FormatError(
                    f"{self.path.parent / name} is not the cell that {self.path.name} names; "
                    "recompute the folder"
                )
            try:
                found.append(cell.noted(replace(cell.record, **notes)))
            except (TypeError, MetroFastError) as error:
                raise FormatError(f"{self.path}, {name}: {error}") from error
        return found


def results_files(folder: Path) -> list[Path]:
    """The results files of a folder in order of their names, and then of their numbers."""

    def order(path: Path) -> tuple[str, int]:
        name, dash, number = path.stem.rpartition("-")
        numbered = bool(dash) and number.isascii() and number.isdigit()
        return (name, int(number[:9])) if numbered else (path.stem, 1)

    return sorted(folder.glob("results_*.json"), key=order)


def read_results(path: Path) -> ResultsFile:
    """Read a results file.

    Args:
        path: The file.

    Returns:
        Its cells, which are not read yet.

    Raises:
        FileNotFoundError: If it is absent.
        FormatError: If it is not a results file of this version, or was changed.
    """
    check_decoded(path.stat().st_size, f"reading {shown(str(path))}")
    try:
        record = parse_json(path.read_bytes(), path, not_finite=True)
    except FormatError as error:
        raise FormatError(f"{error}: delete it and recompute the folder") from error
    try:
        block = record["metro_fast"]
        if block["format"] != RESULTS_FORMAT:
            raise FormatError(
                f"{path} has the format {block['format']!r}, expected {RESULTS_FORMAT!r}: evaluate "
                "again into another folder"
            )
        files = tuple((str(cell["file"]), str(cell["identity"])) for cell in block["cells"])
        for name, _ in files:
            if not name.startswith("cells/") or ".." in name.split("/"):
                raise FormatError(f"{path} names {name!r}, which is not the file of a cell")
        written = block.pop("sha256")
        if written != _checksum(record):
            raise FormatError(
                f"{path} was changed after it was written; delete it and recompute the folder"
            )
        notes = tuple(_read_notes(cell, block["model_family"]) for cell in block["cells"])
        return ResultsFile(path, files, notes, dict(block["versions"]), float(record["date"]))
    except FormatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, MetroFastError) as error:
        raise FormatError(
            f"{path} is not a report ({type(error).__name__}: {error}): delete it and recompute "
            "the folder"
        ) from error


def write_results(
    path: Path,
    cells: Sequence[Cell],
    files: Sequence[str],
    summaries: Sequence[TaskSummary],
    versions: Mapping[str, str],
    date: float,
) -> Path:
    """Write a results file, completely or not at all.

    lm-eval's keys come first: every instruction is a task `<task>/<instruction>`, and every task a
    group whose value is the plain mean over its instructions. `lm_eval.utils.make_table` prints
    them as its own. Our keys are under `metro_fast`.

    Args:
        path: The file.
        cells: All cells of one model.
        files: The file of each cell, relative to the folder.
        summaries: The numbers of the model's tasks.
        versions: Versions of the software that scored them.
        date: When they were scored, in seconds since 1970.

    Returns:
        The path.

    Raises:
        OSError: If it cannot be written.
    """
    record = _lm_eval_part(cells, summaries, date)
    first = cells[0].record
    record["metro_fast"] = {
        "format": RESULTS_FORMAT,
        "model_name": first.model_name,
        "model_family": first.model_family,
        "model_hash": first.model_hash,
        "tokenizer_hash": first.tokenizer_hash,
        "preset": first.preset,
        "protocol_hash": first.protocol_hash,
        "protocol": dict(first.protocol),
        "versions": dict(versions),
        "tasks": [summary.to_record() for summary in summaries],
        "cells": [
            {
                "file": name,
                "identity": cell.record.identity,
                "instruction_hash": cell.record.instruction_hash,
                "instruction": cell.record.instruction.to_record(),
                **{key: getattr(cell.record, key) for key in _NOTES},
            }
            for name, cell in zip(files, cells, strict=True)
        ],
    }
    record["metro_fast"]["sha256"] = _checksum(record)
    return write_atomically(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _checksum(record: dict[str, Any]) -> str:
    """SHA-256 of everything in the file but this."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read_notes(cell: dict[str, Any], model_family: str) -> dict[str, Any]:
    """The fields of a cell's record that its results file has, whatever the cell's own are."""
    notes = {key: cell[key] for key in _NOTES}
    return notes | {
        "model_family": model_family, "instruction": Instruction(**cell["instruction"])
    }  # fmt: skip


def _lm_eval_part(
    cells: Sequence[Cell], summaries: Sequence[TaskSummary], date: float
) -> dict[str, Any]:
    results, groups, subtasks, samples = {}, {}, {}, {}
    higher: dict[str, dict[str, bool]] = {}
    for summary in summaries:
        metric = _LM_EVAL_NAMES.get(summary.metric, summary.metric)
        subtasks[summary.task] = [
            f"{summary.task}/{i.instruction_id}" for i in summary.instructions
        ]
        total = sum(row.total for row in summary.instructions)
        groups[summary.task] = _row(summary.task, metric, summary.mean, "N/A", total)
        higher[summary.task] = {metric: True}
        # Controls have results, but they are outside the group, whose value is a mean.
        for row in (*summary.instructions, *summary.controls):
            name = f"{summary.task}/{row.instruction_id}"
            error = _standard_error(row, summary.binary)
            results[name] = _row(name, metric, row.value, error, row.total)
            higher[name] = {metric: True}
            samples[name] = {"original": summary.task_item_count, "effective": row.total}
    tasks = dict.fromkeys(results)
    shots = {_task_name(cell): cell.record.shots for cell in cells}
    shots |= {cell.record.task: cell.record.shots for cell in cells}
    # lm-eval prints its table from `results` alone, where groups come too.
    results |= groups
    return {
        "results": results,
        "groups": groups,
        "group_subtasks": subtasks,
        "configs": {_task_name(cell): _config(cell) for cell in cells},
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": shots,
        "higher_is_better": higher,
        "n-samples": samples,
        "config": {"model": "metro_fast", "model_name": cells[0].record.model_name},
        "date": date,
        "task_hashes": {_task_name(cell): cell.record.items_hash for cell in cells},
    }


def _config(cell: Cell) -> dict[str, Any]:
    return {
        "task": _task_name(cell),
        "output_type": "generate_until"
        if cell.record.protocol.get("generate")
        else "multiple_choice",
        "doc_to_text": cell.record.instruction.text,
        "num_fewshot": cell.record.shots,
    }


def _task_name(cell: Cell) -> str:
    return f"{cell.record.task}/{cell.record.instruction.id}"


def _row(name: str, metric: str, value: float, error: float | str, total: int) -> dict[str, Any]:
    """A task or a group as in lm-eval."""
    return {
        "name": name,
        "alias": name,
        "sample_len": total,
        f"{metric},none": value,
        f"{metric}_stderr,none": error,
    }


def _standard_error(row: InstructionScore, binary: bool) -> float | str:
    """The standard error of a share as in lm-eval: ddof 1, and "N/A" for a single item."""
    if not binary or row.total < 2:
        return "N/A"
    return math.sqrt(row.value * (1 - row.value) / (row.total - 1))
