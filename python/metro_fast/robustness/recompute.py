"""Recomputation of every table from saved cells."""

import os
from pathlib import Path

from metro_fast._json import parse_json
from metro_fast.errors import FormatError
from metro_fast.robustness.cells import Cell, slug
from metro_fast.robustness.report import Report

__all__ = ["recompute"]


def recompute(folder: str | os.PathLike[str]) -> list[Report]:
    """Recompute every table of a folder from the saved cells alone, and write it.

    Args:
        folder: Folder with `samples_*.jsonl` of one or several models.

    Returns:
        One report per model, sorted by name. Their `results_*.json` are replaced; the versions are
        taken from the old results file if there is one.

    Raises:
        FileNotFoundError: If there are no cells.
        FormatError: If a cell is damaged.
        MetroFastError: If the cells of one model do not belong together, for instance because some
            are from an older model or item file; the message names the difference.
        OSError: If the folder cannot be written.

    Example:
        >>> [report.model_name for report in recompute("evaluation")]  # doctest: +SKIP
        ['base', 'expert']
    """
    folder = Path(folder)
    by_model: dict[str, list[Cell]] = {}
    for path in sorted(folder.glob("samples_*.jsonl")):
        cell = Cell.load(path)
        by_model.setdefault(cell.record.model_name, []).append(cell)
    if not by_model:
        raise FileNotFoundError(
            f"{folder} has no samples_*.jsonl: evaluate with output= this folder first"
        )
    reports = []
    for name, cells in sorted(by_model.items()):
        versions, date = _known_origin(folder / f"results_{slug(name)}.json")
        report = Report(cells, versions=versions, date=date)
        report.save(folder)
        reports.append(report)
    return reports


def _known_origin(path: Path) -> tuple[dict[str, str], float]:
    """Versions and date from an old results file; both are unknown without one."""
    if not path.exists():
        return {"unknown": "recomputed from cells"}, 0.0
    try:
        record = parse_json(path.read_bytes(), path)
        return dict(record["metro_fast"]["versions"]), float(record["date"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not a report ({error}): delete it and recompute") from error
