"""Reports of several models, each with its card, from which every table of a study is made."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import compare, why_not_pairable
from metro_fast.robustness.comparison import Comparison
from metro_fast.robustness.report import Report
from metro_fast.robustness.results_file import results_files
from metro_fast.robustness.study.card import ModelCard
from metro_fast.robustness.study.card_file import read_cards
from metro_fast.robustness.summary import TaskSummary

__all__ = ["Member", "Study"]


class Member(NamedTuple):
    """One report of a study: its model's card, and how the model was asked.

    `reading` is the report's preset, with what else distinguishes it from others of the study.
    """

    card: ModelCard
    report: Report
    reading: str


class Study:
    """Reports of several models, tasks and readings.

    A model may have several reports, one for each reading (likelihood, written answers). Nothing is
    asked of a model here: every table comes from the reports' cells.

    Args:
        reports: The card and the report of each. Reports of one model have equal cards; a report
            whose model has another name than its card is shown under the card's.

    Raises:
        MetroFastError: If there is no report, one is given twice, two different models have one
            name, or a card names a base or an original by its own name.

    Example:
        >>> study = Study(
        ...     [
        ...         (ModelCard("base", "t5", "base"), base_report),
        ...         (ModelCard("small", "t5", "compressed", base="base"), small_report),
        ...     ]
        ... )
        ... # doctest: +SKIP
        >>> reference_table(study, "base").column("verdict")  # doctest: +SKIP
        ['as robust']
    """

    def __init__(self, reports: Iterable[tuple[ModelCard, Report]]) -> None:
        pairs = [
            (card, report if report.model_name == card.name else report.renamed(card.name))
            for card, report in reports
        ]
        _check_pairs(pairs)
        self.members = tuple(
            Member(card, report, reading)
            for (card, report), reading in zip(pairs, _readings(pairs), strict=True)
        )
        self._comparisons: dict[tuple[int, int, str, float], Comparison] = {}

    def __repr__(self) -> str:
        return (
            f"<Study of {len(self.cards)} models on {len(self.tasks)} tasks in "
            f"{len(self.readings)} readings>"
        )

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """The models, each once, in the order of their reports."""
        return tuple({member.card.name: member.card for member in self.members}.values())

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks, in order."""
        return tuple(dict.fromkeys(task for m in self.members for task in m.report.tasks))

    @property
    def readings(self) -> tuple[str, ...]:
        """Names of all readings, in order."""
        return tuple(dict.fromkeys(member.reading for member in self.members))

    def card(self, name: str) -> ModelCard:
        """The card of a model.

        Raises:
            MetroFastError: If no model has the name.
        """
        for card in self.cards:
            if card.name == name:
                return card
        names = ", ".join(card.name for card in self.cards)
        raise MetroFastError(f"no model is called {quoted(name)}, only {names}")

    def of(self, name: str, *, reading: str | None = None) -> tuple[Member, ...]:
        """The reports of a model, or that of one reading."""
        return tuple(
            member
            for member in self.members
            if member.card.name == name and reading in (None, member.reading)
        )

    def summaries(self, member: Member) -> list[TaskSummary]:
        """The numbers of every task of a report, in its order."""
        return [member.report.summary(task) for task in member.report.tasks]

    def comparison(
        self, first: Member, second: Member, task: str, *, margin: float = 0.01
    ) -> Comparison:
        """`compare` of two members on one task, made once.

        Raises:
            MetroFastError: As for `compare`; `partner` finds what can be compared.
        """
        key = (id(first.report), id(second.report), task, margin)
        if key not in self._comparisons:
            self._comparisons[key] = compare(
                first.report, second.report, tasks=[task], margin=margin
            )
        return self._comparisons[key]

    def partner(self, member: Member, name: str, task: str) -> tuple[Member | None, str]:
        """The report of another model with which a report can be compared on a task.

        Args:
            member: A report that has the task.
            name: Name of the other model.
            task: Name of the task.

        Returns:
            The report, or None and the reason.
        """
        others = [other for other in self.of(name) if task in other.report.tasks]
        reasons = {}
        for other in sorted(others, key=lambda each: each.reading != member.reading):
            reason = why_not_pairable(member.report, other.report, task)
            if reason is None:
                return other, ""
            reasons[other.reading] = reason
        if not reasons:
            return None, f"task {quoted(task)}: {quoted(name)} was not asked it"
        return None, next(iter(reasons.values()))

    @classmethod
    def load(
        cls,
        *folders: str | os.PathLike[str],
        cards: Sequence[ModelCard] = (),
    ) -> "Study":
        """Read a study from the folders of evaluations, without any model.

        Args:
            *folders: Folders with `results_*.json`, or such files.
            cards: Cards in place of those that the folders hold, by name. A model without any gets
                one of the kind `other`.

        Returns:
            The study. Two models of one name are called by their hashes as well.

        Raises:
            FileNotFoundError: If a folder has no results.
            FormatError: If a file is damaged.
            MetroFastError: If a card is given for no model, or a base is named that two models are
                called by.

        Example:
            >>> Study.load("evaluation")  # doctest: +SKIP
            <Study of 3 models on 2 tasks in 1 readings>
        """
        found = [pair for folder in folders for pair in _read(Path(folder))]
        if not found:
            raise MetroFastError("no folder is given, expected at least one evaluation")
        given = {card.name: card for card in cards}
        unknown = sorted(given.keys() - {report.model_name for _, report in found})
        if unknown:
            raise MetroFastError(
                f"card {quoted(unknown[0])} is of no model there; the models are "
                f"{', '.join(sorted({report.model_name for _, report in found}))}"
            )
        return cls(_named([(given.get(r.model_name, card), r) for card, r in found]))


def _read(path: Path) -> list[tuple[ModelCard, Report]]:
    """The reports of a folder or file, each with its card."""
    paths = results_files(path) if path.is_dir() else [path]
    if not paths:
        raise FileNotFoundError(f"{path} has no results_*.json: evaluate into this folder first")
    cards = read_cards(path if path.is_dir() else path.parent)
    reports = [Report.load(each) for each in paths]
    return [
        (
            cards.get((report.model_name, report.model_hash))
            or ModelCard(report.model_name, report.model_family),
            report,
        )
        for report in reports
    ]


def _named(pairs: Sequence[tuple[ModelCard, Report]]) -> list[tuple[ModelCard, Report]]:
    """The pairs with names that are different for different models."""
    models = {(card.name, report.model_hash) for card, report in pairs}
    several = {name for name, count in Counter(name for name, _ in models).items() if count > 1}
    named = []
    for card, report in pairs:
        for name in card.references:
            if name in several:
                raise MetroFastError(
                    f"card {quoted(card.name)} names {quoted(name)}, which several models are "
                    "called: evaluate them under names of their own"
                )
        if card.name in several:
            fields = vars(card) | {"name": f"{card.name} ({report.model_hash[:8]})"}
            card = ModelCard(**fields)
        named.append((card, report))
    return named


def _check_pairs(pairs: Sequence[tuple[ModelCard, Report]]) -> None:
    """Refuse what could not be distinguished in a table."""
    if not pairs:
        raise MetroFastError("reports is empty, expected at least one")
    known: dict[str, tuple[ModelCard, str]] = {}
    asked: set[tuple[object, ...]] = set()
    for card, report in pairs:
        first, model = known.setdefault(card.name, (card, report.model_hash))
        if model != report.model_hash:
            raise MetroFastError(
                f"two models are called {quoted(card.name)} (their hashes are {model[:8]} and "
                f"{report.model_hash[:8]}): give each card a name of its own"
            )
        if first != card:
            raise MetroFastError(
                f"model {quoted(card.name)} has two different cards: give its reports the same one"
            )
        content = frozenset(
            (cell.record.identity, cell.record.metric, cell.record.instruction)
            for cell in report.cells
        )
        if (card.name, content) in asked:
            raise MetroFastError(
                f"a report of model {quoted(card.name)} is given twice: leave one out"
            )
        asked.add((card.name, content))


def _readings(pairs: Sequence[tuple[ModelCard, Report]]) -> list[str]:
    """How each report's model was asked, alike for models that were asked alike."""
    protocols: dict[str, set[str]] = {}
    for _, report in pairs:
        record = report.cells[0].record
        protocols.setdefault(record.preset, set()).add(record.protocol_hash)
    labels = []
    for _, report in pairs:
        record = report.cells[0].record
        label = record.preset
        if len(protocols[record.preset]) > 1:
            label += f" {record.protocol_hash[:8]}"
        shots = sorted({cell.record.shots for cell in report.cells})
        if shots != [0]:
            label += f", {' and '.join(map(str, shots))}-shot"
        labels.append(label)
    # Two draws of items are two reports of one reading, of which only one can be in a row.
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for (card, _), label in zip(pairs, labels, strict=True):
        seen[card.name, label] += 1
        number = seen[card.name, label]
        numbered.append(label if number == 1 else f"{label}, number {number}")
    return numbered
