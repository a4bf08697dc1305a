"""The numbers, names and texts of the wordings."""

from collections.abc import Sequence
from html import escape

from metro_fast._page import Html, Section, table
from metro_fast.robustness.page.overview import folded
from metro_fast.robustness.page.view import ModelView

__all__ = ["wording_section"]


def wording_section(views: Sequence[ModelView]) -> Section:
    """Each set of wordings, with the numbers that its columns have in the matrices."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for view in views:
        for summary in view.summaries:
            rows = tuple((row.instruction_id, row.text) for row in summary.instructions)
            tasks = found.setdefault(rows, [])
            if summary.task not in tasks:
                tasks.append(summary.task)
            for row in summary.instructions:
                families = seen.setdefault((row.instruction_id, row.text), {})
                if row.seen:
                    families[view.report.model_family] = None
    head = ("Number", "Wording", "Seen by", "Text")
    tables = [
        table(
            head,
            [
                (str(n), name, ", ".join(seen[name, text]) or "nobody here", Html(_code(text)))
                for n, (name, text) in enumerate(rows, 1)
            ],
            label=f"Wordings of {', '.join(tasks)}",
            kind="wordings",
            caption=", ".join(tasks),
        )
        for rows, tasks in found.items()
    ]
    count = len({row for rows in found for row in rows})
    answer = f"{count} wordings: numbers, names and texts."
    return folded("Wordings", answer, f'<div id="wordings">{"".join(tables)}</div>')


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
