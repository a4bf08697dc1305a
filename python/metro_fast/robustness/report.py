"""The report of one model: its cells, the tables computed from them, and their files."""

import datetime
import functools
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import InstructionSet
from metro_fast.robustness.cells import Cell, slug
from metro_fast.robustness.results_file import RESULTS_FORMAT, cell_entry, results_record
from metro_fast.robustness.summary import TaskSummary, summarize

__all__ = ["Report"]

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "jinja2")


class Report:
    """All cells of one model, from one protocol.

    Args:
        cells: At least one cell. The cells of a task have the same items under different
            instructions.
        versions: Versions of the software that scored them; by default those installed now.
        date: When they were scored, in seconds since 1970; by default now.

    Raises:
        MetroFastError: If there are no cells, a cell is given twice, or cells differ in properties
            that must not be mixed: model, tokenizer, preset and limits, and within a task also
            items and split.

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
        _check(self.cells)
        self.versions = dict(_installed() if versions is None else versions)
        self.date = datetime.datetime.now().timestamp() if date is None else float(date)

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
        """The cells of a task's wordings, in their order; those of controls are apart.

        Raises:
            MetroFastError: If the report has no such task.
        """
        cells = tuple(
            cell
            for cell in self.cells
            if cell.record.task == task and not cell.record.instruction.is_control
        )
        if not cells:
            raise MetroFastError(
                f"the report has no task {task!r}, only the tasks {', '.join(self.tasks)}"
            )
        return cells

    def control_cells(self, task: str) -> tuple[Cell, ...]:
        """The cells of a task's controls, such as negated instructions, which enter no average."""
        return tuple(
            cell
            for cell in self.cells
            if cell.record.task == task and cell.record.instruction.is_control
        )

    def summary(self, task: str) -> TaskSummary:
        """The numbers of a task.

        Raises:
            MetroFastError: If the report has no such task.
            MissingExtraError: If scipy is not installed.
        """
        if task not in self._summaries:
            self._summaries[task] = summarize(self.task_cells(task), self.control_cells(task))
        return self._summaries[task]

    @functools.cached_property
    def _summaries(self) -> dict[str, TaskSummary]:
        return {}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every cell that is not in the folder yet, then `results_<model>.json`.

        Args:
            folder: Folder of the evaluation; created if it does not exist.

        Returns:
            The results file.

        Raises:
            OSError: If it cannot be written.
        """
        folder = Path(folder)
        for cell in self.cells:
            path = folder / cell_entry(cell)["file"]
            if not (path.exists() and Cell.load(path) == cell):
                cell.save(folder)
        summaries = [self.summary(task) for task in self.tasks]
        record = results_record(self.cells, summaries, self.versions, self.date)
        text = json.dumps(record, indent=2, ensure_ascii=False)
        return write_atomically(folder / f"results_{slug(self.model_name)}.json", text + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Read a report from its results file, and from the cells that it names in its folder.

        Args:
            path: A `results_*.json`, or a folder that contains exactly one.

        Returns:
            The report; its tables are computed again from the cells.

        Raises:
            FileNotFoundError: If the file or one of its cells is missing.
            FormatError: If a file is damaged, or a cell is not the one that the results name.
            MetroFastError: If the folder contains no results file or several.
        """
        path = Path(path)
        if path.is_dir():
            found = sorted(path.glob("results_*.json"))
            if len(found) != 1:
                names = ", ".join(f.name for f in found) or "none"
                raise MetroFastError(
                    f"{path} must contain one results_*.json, found {names}: pass one file"
                )
            path = found[0]
        record = parse_json(path.read_bytes(), path)
        try:
            block = record["metro_fast"]
            if block["format"] != RESULTS_FORMAT:
                raise FormatError(
                    f"{path} has the format {block['format']!r}, expected {RESULTS_FORMAT!r}"
                )
            files = [(str(cell["file"]), str(cell["identity"])) for cell in block["cells"]]
            versions = {str(k): str(v) for k, v in block["versions"].items()}
            date = float(record["date"])
        except FormatError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path} is not a report ({type(error).__name__}: {error})"
            ) from error
        cells = []
        for name, identity in files:
            if Path(name).name != name:
                raise FormatError(f"{path}: cell file {name!r} is not a plain name")
            cell = Cell.load(path.parent / name)
            if cell.record.identity != identity:
                raise FormatError(
                    f"{path}: {name} is the cell of another run: run `recompute` on the folder"
                )
            cells.append(cell)
        return cls(cells, versions=versions, date=date)


def _check(cells: Sequence[Cell]) -> None:
    """Check that the cells can be averaged: a mean over different protocols means nothing."""
    if not cells:
        raise MetroFastError("no cells are given, expected at least one")
    shared: dict[tuple[str, str], object] = {}
    slots: set[tuple[str, str]] = set()
    for cell in cells:
        record = cell.record
        slot = (record.task, record.instruction.id)
        if slot in slots:
            raise MetroFastError(f"cell {slot[0]!r} x {slot[1]!r} is given twice: remove one")
        slots.add(slot)
        for key in (
            "model_name", "model_family", "model_hash", "tokenizer_hash", "preset",
            "max_input_length", "max_target_length",
        ):  # fmt: skip
            _check_equal(shared, "the report", key, getattr(record, key))
        for key in ("task_type", "split", "items_hash"):
            _check_equal(shared, f"task {record.task!r}", key, getattr(record, key))
    tasks = dict.fromkeys(cell.record.task for cell in cells)
    for cell in cells:
        if not cell.record.instruction.is_control:
            tasks.pop(cell.record.task, None)
    if tasks:
        raise MetroFastError(
            f"task {next(iter(tasks))!r} has controls alone, which enter no average: add a wording"
        )


def _check_equal(
    shared: dict[tuple[str, str], object], where: str, key: str, value: object
) -> None:
    known = shared.setdefault((where, key), value)
    if known != value:
        raise MetroFastError(
            f"{where} mixes {key} {known!r} and {value!r}: delete the cells of one of them"
        )


def _installed() -> dict[str, str]:
    versions = {"python": platform.python_version(), "metro_fast": _version("metro_fast")}
    return versions | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
