"""All reports of a folder."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from metro_fast.robustness.cell_files import CellFolder
from metro_fast.robustness.mixing import partition
from metro_fast.robustness.owned import owned_output
from metro_fast.robustness.report import Report
from metro_fast.robustness.results_file import results_files
from metro_fast.robustness.versions import UNKNOWN

__all__ = ["distinguished", "load_reports", "recompute"]


def load_reports(folder: str | os.PathLike[str]) -> list[Report]:
    """Read every report of a folder: each model under each protocol.

    Args:
        folder: Folder of one or several evaluations.

    Returns:
        The reports in order of their files' names. Those of one model name are renamed so that
        they can be in one table (`distinguished`).

    Raises:
        FileNotFoundError: If there are no results.
        FormatError: If a file is damaged.

    Example:
        >>> [report.model_name for report in load_reports("evaluation")]  # doctest: +SKIP
        ['base (metro_t0)', 'base (t0)', 'expert']
    """
    paths = results_files(Path(folder))
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no results_*.json: evaluate with output= this folder first"
        )
    return distinguished([Report.load(path) for path in paths])


def distinguished(reports: Sequence[Report]) -> list[Report]:
    """Give reports different names, by what they differ in: protocol, model, or a number.

    Args:
        reports: Reports, of which several may have one name.

    Returns:
        The same reports; those with a name of their own keep it.
    """
    names = [[report.model_name] for report in reports]
    for part in (
        lambda report: report.preset,
        lambda report: _listed(f"{cell.record.shots}-shot" for cell in report.cells),
        lambda report: _listed(cell.metric.label for cell in report.cells),
        lambda report: report.model_hash[:8],
        lambda report: report.cells[0].record.protocol_hash[:8],
    ):
        before = Counter(map(tuple, names))
        values = [part(report) for report in reports]
        several = {
            key
            for key in before
            if len({v for n, v in zip(names, values, strict=True) if tuple(n) == key}) > 1
        }
        names = [
            [*name, value] if tuple(name) in several else name
            for name, value in zip(names, values, strict=True)
        ]
    found: Counter[str] = Counter()
    labels = []
    for name in names:
        label = name[0] if len(name) == 1 else f"{name[0]} ({', '.join(name[1:])})"
        found[label] += 1
        labels.append(label if found[label] == 1 else f"{label}, number {found[label]}")
    return [
        report if report.model_name == label else report.renamed(label)
        for report, label in zip(reports, labels, strict=True)
    ]


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def recompute(folder: str | os.PathLike[str]) -> list[Report]:
    """Recompute every table of a folder from the saved cells alone, and write it.

    Args:
        folder: Folder with cells of one or several models.

    Returns:
        The reports, as `load_reports` gives them. Their `results_*.json` are replaced; versions and
        dates are taken from the old ones. Cells that no results file names, since a run was cut off
        or the file is gone, are added to the results that they fit, or get their own.

    Raises:
        FileNotFoundError: If there are no cells.
        FormatError: If a cell or a results file is damaged.
        MetroFastError: If a task has cells of controls alone, or another run writes to the folder.
        OSError: If the folder cannot be written.

    Example:
        >>> [report.model_name for report in recompute("evaluation")]  # doctest: +SKIP
        ['base', 'expert']
    """
    store = CellFolder(folder)
    if not store.files():
        raise FileNotFoundError(f"{folder} has no cells: evaluate with output= this folder first")
    named: set[str] = set()
    with owned_output(folder):
        for path in results_files(Path(folder)):
            report = Report.load(path)
            report.save(folder)
            named |= {store.file_of(cell.record) for cell in report.cells}
        rest = [cell for name, cell in store if name not in named]
        for cells in partition(rest):
            Report(cells, versions=UNKNOWN, date=0.0).save(folder)
        return load_reports(folder)
