"""Evaluation of a model over the grid of tasks and instructions, cell by cell."""

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transformers.utils import logging as transformers_logging

from metro_fast.errors import MetroFastError
from metro_fast.prompts import FewShot, Instruction, InstructionSet, Task
from metro_fast.robustness.cell_files import CellFolder
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.grid import WordedTask, warn_of_rejects, worded_grid
from metro_fast.robustness.owned import owned_output
from metro_fast.robustness.ranks import Ranks, shares
from metro_fast.robustness.report import Report, check_results
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import (
    AnswerStore,
    Engine,
    Outcome,
    Protocol,
    find_protocol,
    model_fingerprint,
    tokenizer_fingerprint,
)

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
    preset: str | Protocol = "metro_t0",
    wrapper: str = "",
    few_shot: FewShot | Mapping[str, FewShot] | None = None,
    max_input_length: int | None = None,
    max_target_length: int | None = None,
    max_new_tokens: int | None = None,
    max_batch_tokens: int = 16384,
    store: AnswerStore | None = None,
    resume: bool = True,
    progress: bool | None = None,
    strict: bool = False,
) -> Report:
    """Ask a model every task in the words of every instruction of its type.

    An item that an instruction cannot word is a reject of its cell, counted by reason in the cell,
    the results and the page; averages are over the items that all wordings of a task have.

    Each cell is asked separately, so its numbers do not depend on the other cells of the run. With
    `output`, each cell is written as soon as it is finished, and an interrupted run continues where
    it stopped. A cell on disk is reused if model, tokenizer, items, prompts and protocol have the
    same hashes. A run into a folder that has results adds to them and replaces nothing.

    Under `torchrun` (or in any process group of torch) the processes share the cells, and the first
    one writes the results, which are the same as those of a single process.

    Args:
        model: As for `Engine`.
        tokenizer: The model's tokenizer.
        tasks: At least one task; their names are unique.
        instructions: The instructions; each task uses those of its type and needs at least one.
        model_name: Name of the model in every table.
        model_family: Instructions with this family in `seen_by` count as seen.
        output: Folder for cells and `results_*.json`; by default nothing is written.
        preset: A name of `metro_fast.scoring.PROTOCOLS`, or a protocol.
        wrapper: Text around every input, see `metro_fast.scoring.find_protocol`; its name is a part
            of the preset's in all results.
        few_shot: Worked examples before every item: for all tasks, or by name of task.
        max_input_length: Tokens to which inputs are cut; by default the protocol's.
        max_target_length: Tokens to which choices are cut; by default the protocol's.
        max_new_tokens: Most tokens of a written answer; by default the protocol's.
        max_batch_tokens: As for `Engine`.
        store: As for `Engine`; a second study of the same cells is then free.
        resume: Whether to reuse finished cells in `output`.
        progress: Whether to show a progress bar; by default if standard error is a terminal.
        strict: Raise the first item that cannot be worded as an error.

    Returns:
        The report of the cells that were asked for; `load_reports(output)` gives all of a folder.

    Raises:
        TypeError: If a task or an instruction has another type.
        RejectError: If `strict` and an item cannot be worded.
        MetroFastError: If there are no tasks, two tasks have one name, no item of a task can be
            worded by all wordings, the prompts do not fit protocol and metric, or `Engine` raises;
            all templates are rendered before the model is asked.
        FormatError: If a file to be reused is damaged.
        OSError: If `output` cannot be written.

    Another run that writes to `output` at the same time is refused with a `MetroFastError`.

    Example:
        >>> report = evaluate(  # doctest: +SKIP
        ...     model, tokenizer, [task], instructions, model_name="base", model_family="t0"
        ... )
        >>> report.summary("relations").mean  # doctest: +SKIP
        0.61
    """
    limits = (max_input_length, max_target_length, max_new_tokens)
    protocol = _protocol(preset, wrapper, tokenizer, limits)
    _check_names(model_name, model_family, protocol.name)
    with owned_output(output):
        shots = few_shot or {}
        if isinstance(shots, FewShot):
            shots = {task.name: shots for task in tasks}
        grid = worded_grid(
            tasks, InstructionSet(instructions), protocol, few_shot=shots, strict=strict
        )
        hashes = model_fingerprint(model), tokenizer_fingerprint(tokenizer)
        records = [_record(row, protocol, model_name, model_family, hashes) for row in grid]
        ranks = Ranks.current()
        ranks.check_same([record.identity for record in records])
        if ranks.is_first:
            warn_of_rejects(grid)
        folder = None if output is None else CellFolder(output)
        if folder is not None:
            folder.path.mkdir(parents=True, exist_ok=True)
            check_results(folder.path, model_name, protocol.name)

        engine = Engine(model, tokenizer, max_batch_tokens=max_batch_tokens, store=store)
        run = _Run(engine, protocol, grid, records, folder, ranks)
        show = ranks.is_first and (sys.stderr.isatty() if progress is None else progress)
        report = Report(run.complete(run.finished() if resume else {}, show))
        if ranks.is_first:
            for cell in report.cells:
                _warn_of_ties(cell)
            if folder is not None:
                report.save(folder.path)
        ranks.gather(None)  # no process returns before the results are written
        return report


def _check_names(*names: str) -> None:
    labels = ("model_name", "model_family", "the protocol's name")
    for label, name in zip(labels, names, strict=True):
        if not name:
            raise MetroFastError(f"{label} is empty, but every number is shown with it: name it")


def _protocol(
    preset: str | Protocol,
    wrapper: str,
    tokenizer: "PreTrainedTokenizerBase",
    limits: tuple[int | None, int | None, int | None],
) -> Protocol:
    """The protocol with its wrapper and with the limits that are given."""
    if isinstance(preset, str):
        protocol = find_protocol(preset, wrapper=wrapper, tokenizer=tokenizer)
    elif wrapper:
        raise MetroFastError("wrapper is given beside a protocol: put the wrapper into it")
    else:
        protocol = preset
    inputs, targets, new = limits
    return replace(
        protocol,
        max_input_tokens=protocol.max_input_tokens if inputs is None else inputs,
        max_target_tokens=protocol.max_target_tokens if targets is None else targets,
        max_new_tokens=protocol.max_new_tokens if new is None else new,
    )


def _record(
    row: WordedTask,
    protocol: Protocol,
    model_name: str,
    model_family: str,
    hashes: tuple[str, str],
) -> CellRecord:
    return CellRecord(
        model_name=model_name,
        model_family=model_family,
        model_hash=hashes[0],
        tokenizer_hash=hashes[1],
        task=row.task.name,
        task_type=row.task.task_type,
        split=row.task.split,
        metric=row.task.metric,
        items_hash=row.task.sha256,
        instruction=row.instruction,
        prompts_hash=prompts_hash(row.rendered),
        preset=protocol.name,
        protocol=protocol.identity,
        shots=row.shots,
    )


@dataclass(frozen=True)
class _Run:
    """The cells of one evaluation, and who asks them."""

    engine: Engine
    protocol: Protocol
    grid: Sequence[WordedTask]
    records: Sequence[CellRecord]
    folder: CellFolder | None
    ranks: Ranks

    def finished(self) -> dict[int, tuple[Outcome, ...]]:
        """The outcomes of the cells that are in the folder, by their place in the grid."""
        found = {}
        if self.folder is not None and self.ranks.is_first:
            for index, record in enumerate(self.records):
                cell = self.folder.find(record)
                if cell is not None:
                    found[index] = cell.outcomes
        known: dict[int, tuple[Outcome, ...]] = self.ranks.from_first(found)
        return known

    def complete(self, done: dict[int, tuple[Outcome, ...]], show: bool) -> list[Cell]:
        """All cells: those that are done, and the others, which the processes share out."""
        todo = [index for index in range(len(self.grid)) if index not in done]
        shared = shares([_cost(self.grid[index]) for index in todo], self.ranks.size)
        answered = {}
        bar = transformers_logging.tqdm(
            total=len(shared[self.ranks.rank]),
            disable=not show,
            unit="cell",
            desc=self.records[0].model_name,
        )
        with bar:
            for place in shared[self.ranks.rank]:
                index = todo[place]
                prompts = self.grid[index].rendered.prompts
                answered[index] = tuple(self.engine.answer(prompts, self.protocol))
                if self.folder is not None:
                    self.folder.save(self._cell(index, answered[index]))
                bar.update(1)
        for part in (done, *self.ranks.gather(answered)):
            answered |= part
        return [self._cell(index, answered[index]) for index in range(len(self.grid))]

    def _cell(self, index: int, outcomes: tuple[Outcome, ...]) -> Cell:
        row = self.grid[index]
        return Cell(self.records[index], row.task, row.rendered, outcomes)


def _cost(row: WordedTask) -> int:
    """About how much there is to read in a cell, in characters."""
    return sum(len(p.input) + sum(map(len, p.choices)) for p in row.rendered.prompts)


def _warn_of_ties(cell: Cell) -> None:
    if cell.ties:
        _logger.warning(
            "%s, %s: %d of %d items have several best choices; the first was taken",
            cell.record.task, cell.record.instruction.id, cell.ties, len(cell.items),
        )  # fmt: skip
