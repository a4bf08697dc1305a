"""The report of one model: its cells, the tables computed from them, and their files."""

import datetime
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from metro_fast._folder_lock import owned_folder
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts import InstructionSet
from metro_fast.robustness.cell_files import CellFolder, slug
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import on_common_items
from metro_fast.robustness.mixing import check_report, problem, same_answers
from metro_fast.robustness.results_file import (
    ResultsFile,
    read_results,
    results_files,
    write_results,
)
from metro_fast.robustness.summarize import summarize
from metro_fast.robustness.summary import TaskSummary
from metro_fast.robustness.versions import UNKNOWN, installed, now

__all__ = ["Report", "check_results"]


def _names(folder: Path, model_name: str, preset: str) -> Iterator[Path]:
    """The results files that a report may be in, one after the other, without an end."""
    stem = f"results_{slug(model_name)}_{slug(preset)}"
    yield folder / f"{stem}.json"
    for number in itertools.count(2):
        yield folder / f"{stem}-{number}.json"


def check_results(folder: Path, model_name: str, preset: str) -> None:
    """Read the results that a report would be added to, before the model is asked for it.

    Args:
        folder: Folder of the evaluation.
        model_name: Name of the model.
        preset: Name of the protocol.

    Raises:
        FormatError: If one is damaged.
    """
    for path in _names(folder, model_name, preset):
        if not path.exists():
            return
        read_results(path)


class Report:
    """All cells of one model, from one protocol.

    Args:
        cells: At least one cell. The cells of a task have the same items under different
            instructions.
        versions: Versions of the software that scored them; by default those installed now.
        date: When they were scored, in seconds since 1970; by default now.

    Raises:
        MetroFastError: If there are no cells, a cell is given twice, or cells differ in properties
            that must not be mixed: model, tokenizer and protocol, and within a task also items,
            split and metric.

    Example:
        >>> report = Report.load("results_base.json")  # doctest: +SKIP
        >>> report.summary("relations").gap.gap  # doctest: +SKIP
        0.11
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        *,
        versions: Mapping[str, str] | None = None,
        date: float | None = None,
    ) -> None:
        self.cells = tuple(cells)
        check_report(self.cells)
        self.versions = dict(installed() if versions is None else versions)
        self.date = now() if date is None else float(date)

    def __repr__(self) -> str:
        tasks = ", ".join(
            f"{task} ({len(self.task_cells(task))} instructions)" for task in self.tasks
        )
        return f"<Report of {self.model_name} on {tasks}>"

    @property
    def model_name(self) -> str:
        """Name of the model in every table."""
        return self.cells[0].record.model_name

    @property
    def model_family(self) -> str:
        """Family whose seen labels apply."""
        return self.cells[0].record.model_family

    @property
    def model_hash(self) -> str:
        """SHA-256 of the model's tensors, configuration and adapters."""
        return self.cells[0].record.model_hash

    @property
    def preset(self) -> str:
        """Scoring protocol."""
        return self.cells[0].record.preset

    @functools.cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(dict.fromkeys(cell.record.task for cell in self.cells))

    @property
    def date_text(self) -> str:
        """When the cells were scored, in UTC."""
        if self.date == 0:
            return "unknown"
        moment = datetime.datetime.fromtimestamp(self.date, datetime.UTC)
        return moment.strftime("%Y-%m-%d %H:%M UTC")

    def instructions_hash(self, task: str) -> str:
        """SHA-256 of a task's wordings and then its controls, as in `InstructionSet.sha256`."""
        cells = (*self.task_cells(task), *self.control_cells(task))
        return InstructionSet(cell.record.instruction for cell in cells).sha256

    def task_cells(self, task: str) -> tuple[Cell, ...]:
        """The cells of a task's wordings on the items that all of them can word.

        Those of controls are apart.

        Raises:
            MetroFastError: If the report has no such task.
        """
        if task not in self._task_cells:
            self._task_cells[task] = tuple(on_common_items(self._wordings(task)))
        return self._task_cells[task]

    def task_type(self, task: str) -> str:
        """The kind of a task, such as `re` or `qa`.

        Raises:
            MetroFastError: If the report has no such task.
        """
        return self.task_cells(task)[0].record.task_type

    def control_cells(self, task: str) -> tuple[Cell, ...]:
        """The cells of a task's controls, such as negated instructions, which enter no average."""
        return tuple(cell for cell in self._of(task) if cell.record.instruction.is_control)

    def summary(self, task: str) -> TaskSummary:
        """The numbers of a task.

        Raises:
            MetroFastError: If the report has no such task.
            MissingExtraError: If scipy is not installed.
        """
        if task not in self._summaries:
            self._summaries[task] = summarize(self._wordings(task), self.control_cells(task))
        return self._summaries[task]

    def _wordings(self, task: str) -> list[Cell]:
        return [cell for cell in self._of(task) if not cell.record.instruction.is_control]

    def _of(self, task: str) -> list[Cell]:
        cells = [cell for cell in self.cells if cell.record.task == task]
        if not cells:
            raise MetroFastError(
                f"the report has no task {quoted(task)}, only the tasks {', '.join(self.tasks)}"
            )
        return cells

    @functools.cached_property
    def _summaries(self) -> dict[str, TaskSummary]:
        return {}

    @functools.cached_property
    def _task_cells(self) -> dict[str, tuple[Cell, ...]]:
        return {}

    def renamed(self, model_name: str) -> "Report":
        """The same report under another name of the model."""
        cells = (replace(c, record=replace(c.record, model_name=model_name)) for c in self.cells)
        return Report(cells, versions=self.versions, date=self.date)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every cell that is not in the folder yet, then the results file.

        Nothing that is there is lost, and no file of a cell changes. The cells are added to the
        results of the same model and protocol; if these have other items, another metric or other
        words under a name of this report, it gets a results file of its own, with a number.
        Families and seen labels are notes in the results: those of the last run stand.

        Args:
            folder: Folder of the evaluation; created if it does not exist.

        Returns:
            The results file.

        Raises:
            FormatError: If a results file in the folder is damaged.
            MetroFastError: If another run writes to the folder.
            OSError: If a file cannot be written.
        """
        with owned_folder(folder):
            store = CellFolder(folder)
            path, whole = self._among(Path(folder))
            for cell in whole.cells:
                if store.find(cell.record) is None:
                    store.save(cell)
            files = [store.file_of(cell.record) for cell in whole.cells]
            summaries = [whole.summary(task) for task in whole.tasks]
            return write_results(path, whole.cells, files, summaries, whole.versions, whole.date)

    def _among(self, folder: Path) -> tuple[Path, "Report"]:
        """The results file for this report, and the report together with what that file has."""
        for path in _names(folder, self.model_name, self.preset):
            if not path.exists():
                return path, self
            union = self._with(Report.load(path))
            if union is not None:
                return path, union
        raise AssertionError("the names have no end")

    def _with(self, earlier: "Report") -> "Report | None":
        """This report and an earlier one as one, or None if they do not belong together."""
        slots = {cell.record.slot: cell.record for cell in self.cells}
        kept = []
        for cell in earlier.cells:
            record = slots.get(cell.record.slot)
            if record is None:
                kept.append(cell.noted(replace(cell.record, model_family=self.model_family)))
            elif not same_answers(record, cell.record):
                return None
        if problem((*kept, *self.cells)) is not None:
            return None
        order = {cell.record.slot: place for place, cell in enumerate(earlier.cells)}
        last = len(order)
        cells = sorted((*kept, *self.cells), key=lambda cell: order.get(cell.record.slot, last))
        if self.versions == UNKNOWN:
            return Report(cells, versions=earlier.versions, date=earlier.date)
        return Report(cells, versions=self.versions, date=self.date)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Read a report from its results file, and from the cells that it names in its folder.

        Args:
            path: A `results_*.json`, or a folder that contains exactly one (`load_reports` reads
                those of several).

        Returns:
            The report; its tables are computed again from the cells.

        Raises:
            FileNotFoundError: If the file or one of its cells is missing.
            FormatError: If a file is damaged, or a cell is not the one that the results name.
            MetroFastError: If the folder contains no results file or several.
        """
        path = Path(path)
        if path.is_dir():
            found = results_files(path)
            if len(found) != 1:
                names = ", ".join(f.name for f in found) or "none"
                raise MetroFastError(
                    f"{path} must contain one results_*.json, found {names}: pass one file, or "
                    "read all of them with load_reports"
                )
            path = found[0]
        results: ResultsFile = read_results(path)
        return cls(results.cells(), versions=results.versions, date=results.date)
