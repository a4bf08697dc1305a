"""Evaluation of a model over the grid of tasks and instructions, cell by cell."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils import logging as transformers_logging

from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, InstructionSet, Prompt, Task
from metro_fast.robustness.cells import Cell, CellRecord, cell_file_name
from metro_fast.robustness.grid import worded_grid
from metro_fast.robustness.report import Report
from metro_fast.scoring import PRESETS, Protocol, find_protocol, score_choices
from metro_fast.scoring.fingerprint import model_fingerprint, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["evaluate"]

_logger = logging.getLogger(__name__)


def evaluate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Sequence[Task],
    instructions: Iterable[Instruction],
    *,
    model_name: str,
    model_family: str,
    output: str | os.PathLike[str] | None = None,
    preset: str = "metro_t0",
    wrapper: str = "",
    max_input_length: int = 512,
    max_target_length: int = 256,
    max_batch_tokens: int = 16384,
    resume: bool = True,
    progress: bool | None = None,
    strict: bool = False,
) -> Report:
    """Score every task in the words of every instruction of its type.

    An item that an instruction of its task cannot word is left out of all cells of the task, so
    that instructions are compared on the same items; a warning counts these by reason.

    Each cell is scored separately, so its numbers do not depend on the other cells of the run. With
    `output`, each cell is written as soon as it is finished, and an interrupted run continues where
    it stopped. A cell on disk is reused if model, tokenizer, items, wording and protocol have the
    same hashes; otherwise it is scored again.

    Args:
        model: As for `score_choices`.
        tokenizer: The model's tokenizer.
        tasks: At least one task; their names are unique.
        instructions: The instructions; each task uses those of its type and needs at least one.
        model_name: Name of the model in every table; results with the same name share files.
        model_family: Instructions with this family in `seen_by` count as seen.
        output: Folder for `samples_*.jsonl` and `results_*.json`; by default nothing is written.
        preset: Protocol, see `metro_fast.scoring.PRESETS`.
        wrapper: Text around every input, see `metro_fast.scoring.find_protocol`; its name is a part
            of the preset's in all results.
        max_input_length: As for `score_choices`.
        max_target_length: As for `score_choices`.
        max_batch_tokens: As for `score_choices`.
        resume: Whether to reuse finished cells in `output`.
        progress: Whether to show a progress bar; by default if standard error is a terminal.
        strict: Raise the first item that cannot be worded as an error.

    Returns:
        The report of all cells.

    Raises:
        TypeError: If a task or an instruction has another type.
        RejectError: If `strict` and an item cannot be worded.
        MetroFastError: If there are no tasks, two tasks have one name, no item of a task can be
            worded, or `score_choices` raises; all templates are rendered before any is scored.
        FormatError: If a file to be reused is damaged.
        OSError: If `output` cannot be written.

    Example:
        >>> report = evaluate(  # doctest: +SKIP
        ...     model, tokenizer, [task], instructions, model_name="base", model_family="t0"
        ... )
        >>> report.summary("relations").mean_accuracy  # doctest: +SKIP
        0.61
    """
    _check_settings(preset, model_name=model_name, model_family=model_family)
    protocol = find_protocol(preset, wrapper=wrapper, tokenizer=tokenizer)
    grid = worded_grid(tasks, InstructionSet(instructions), strict=strict)
    record_of = partial(
        CellRecord,
        model_name=model_name,
        model_family=model_family,
        model_hash=model_fingerprint(model),
        tokenizer_hash=tokenizer_fingerprint(tokenizer),
        preset=protocol.name,
        max_input_length=max_input_length,
        max_target_length=max_target_length,
    )
    folder = None if output is None else Path(output)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    cells: list[Cell] = []
    show = sys.stderr.isatty() if progress is None else progress
    for task, instruction, prompts in transformers_logging.tqdm(
        grid, disable=not show, unit="cell", desc=model_name
    ):
        record = record_of(
            task=task.name,
            task_type=task.task_type,
            split=task.split,
            items_hash=task.sha256,
            instruction=instruction,
        )
        found = _finished(folder, record) if folder is not None and resume else None
        if found is None:
            scores = _scores(model, tokenizer, prompts, record, protocol, max_batch_tokens)
        else:
            scores = found.scores
        cells.append(Cell(record, task.items, tuple(p.input for p in prompts), scores))
        if folder is not None and (found is None or found.record != record):
            cells[-1].save(folder)
        _report_ties(cells[-1])
    report = Report(cells)
    if folder is not None:
        report.save(folder)
    return report


def _check_settings(preset: str, **names: str) -> None:
    if preset not in PRESETS:
        raise MetroFastError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    for label, name in names.items():
        if not name:
            raise MetroFastError(f"{label} is empty, but every number is shown with it: name it")


def _report_ties(cell: Cell) -> None:
    if cell.ties:
        _logger.warning(
            "%s, %s: %d of %d items have several best choices; the first was taken",
            cell.record.task, cell.record.instruction.id, cell.ties, len(cell.items),
        )  # fmt: skip


def _scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Prompt],
    record: CellRecord,
    protocol: Protocol,
    max_batch_tokens: int,
) -> tuple[tuple[float, ...], ...]:
    """The scores of one cell, under the protocol and the limits of its record."""
    scores = score_choices(
        model,
        tokenizer,
        [prompt.input for prompt in prompts],
        [prompt.choices for prompt in prompts],
        preset=protocol,
        max_input_length=record.max_input_length,
        max_target_length=record.max_target_length,
        max_batch_tokens=max_batch_tokens,
    )
    return tuple(map(tuple, scores))


def _finished(folder: Path, record: CellRecord) -> Cell | None:
    """The saved cell with this name, task and instruction, if its scores would be the same."""
    path = folder / cell_file_name(record.model_name, record.task, record.instruction.id)
    if not path.exists():
        return None
    cell = Cell.load(path)
    return cell if cell.record.identity == record.identity else None
